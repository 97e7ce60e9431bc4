-- Tells those who wait what this node has applied, without waiting for the next renewal.
update log.node set applied = $2 where node_id = $1 and applied < $2
