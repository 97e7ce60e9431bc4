-- All but the newest few of a projection: who asks every minute must not fill the database.
delete from projection.job
 where schema_name = $1 and state not in ('waiting', 'running')
   and job_id not in (select job_id from projection.job where schema_name = $1 order by requested_at desc limit 20)
