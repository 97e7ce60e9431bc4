-- Nodes that have not been heard of for long. One that comes back after all is given a row again.
delete from log.node where not leased and renewed_at < now() - interval '1 day'
