-- The newest of each kind, and so the unfinished one if there is one.
select distinct on (kind) job_id, kind, state, rows_done, rows_total, position, finding, requested_at, finished_at
  from projection.job
 where schema_name = $1
 order by kind, requested_at desc
