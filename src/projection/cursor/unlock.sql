-- Gives the right to keep a projection back.
select pg_advisory_unlock(hashtextextended('portcullis: projection ' || $1::text, 0))
