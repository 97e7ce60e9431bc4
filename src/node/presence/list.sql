-- For people.
select node_id, name, version, address, applied, leased, lease_ms, started_at, renewed_at from log.node order by name, node_id
