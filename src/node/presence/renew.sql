-- Renews a lease that the node holds. Answers with no row where it was waited out: then only `enlist.sql` helps.
update log.node
   set applied = greatest(applied, $2), renewals = renewals + 1, renewed_at = now()
 where node_id = $1 and leased
returning renewals
