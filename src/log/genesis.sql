-- Which log this is, and under which root key.
select log_id, root_key_check from log.genesis
