-- Whose lease may still be good.
select node_id, name, applied, renewals, lease_ms from log.node where leased order by node_id
