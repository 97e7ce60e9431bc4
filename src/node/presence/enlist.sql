-- Puts a node on the list of those that others wait for, or back on it.
insert into log.node (node_id, name, version, address, applied, leased, renewals, lease_ms)
values ($1, $2, $3, $4, $5, true, 0, $6)
on conflict (node_id) do update
   set name = excluded.name, version = excluded.version, address = excluded.address, applied = excluded.applied,
       leased = true, renewals = node.renewals + 1, lease_ms = excluded.lease_ms, renewed_at = now()
