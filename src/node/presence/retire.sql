-- Ends the lease of a node whose renewals have stood still for longer than one lasts. A renewal that comes between has
-- moved the count, and this does nothing; one that comes after finds that it holds no lease.
update log.node set leased = false where node_id = $1 and renewals = $2 and leased
returning node_id
