-- The same, and nobody else moves it until this transaction ends: for a writer that has lost the race twice.
select version, next_position, mac, merkle_root, frontier, recorded_at from log.head for update
