-- How far it is.
update projection.job set rows_done = $2, rows_total = $3 where job_id = $1 and state = 'running'
