-- Whether this session may tell the webhooks: one does at a time, for as long as its session lasts.
select pg_try_advisory_lock(hashtextextended('portcullis: webhooks', 0))
