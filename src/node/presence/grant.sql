-- Gives a lease to a node that holds none, if it has applied the head.
--
-- The share lock makes it either come before the append that somebody waits for, who then finds this lease, or see that
-- append in the head.
with head as (
    select next_position from log.head for share
)
insert into log.node (node_id, name, version, address, applied, leased, renewals, lease_ms)
select $1, $2, $3, $4, $5, true, 0, $6
  from head
 where next_position <= $5
on conflict (node_id) do update
   set name = excluded.name, version = excluded.version, address = excluded.address, applied = excluded.applied,
       leased = true, renewals = node.renewals + 1, lease_ms = excluded.lease_ms, renewed_at = now()
returning renewals
