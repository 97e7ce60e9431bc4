-- Whether this session may keep a projection: one does at a time, for as long as its session lasts.
select pg_try_advisory_lock(hashtextextended('portcullis: projection ' || $1::text, 0))
