-- Where the log ends.
select version, next_position, mac, merkle_root, frontier, recorded_at from log.head
