-- The public value by which a wrong root key is noticed.
select root_key_check from log.genesis
