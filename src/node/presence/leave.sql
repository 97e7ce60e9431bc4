-- A node that has stopped answering need not be waited out.
delete from log.node where node_id = $1
