-- To ask for what is asked for already is no second wish.
insert into projection.job (job_id, schema_name, kind, state, rows_done, rows_total, requested_at)
values ($1, $2, $3, 'waiting', 0, 0, now())
    on conflict (schema_name, kind) where state in ('waiting', 'running') do nothing
