-- The oldest that is not done, for the one node that keeps the projection. One that is running already was begun by a node
-- that does not keep it any more.
update projection.job
   set state = 'running', rows_done = 0, rows_total = 0
 where job_id = (select job_id from projection.job
                  where schema_name = $1 and state in ('waiting', 'running')
                  order by requested_at limit 1)
returning job_id, kind
