-- What it has come to.
update projection.job
   set state = $2, position = $3, finding = $4, finished_at = now(), rows_done = $5, rows_total = $6
 where job_id = $1 and state = 'running'
