-- Rows as they are at the cursor that moves with them.
insert into pool
select * from json_populate_recordset(null::pool, $1::text::json)
    on conflict on constraint pool_pkey do update set
       (description, token_ttl_seconds, token_record, audience, scopes, sharing, workers, created_at, removed)
     = (excluded.description, excluded.token_ttl_seconds, excluded.token_record, excluded.audience, excluded.scopes,
        excluded.sharing, excluded.workers, excluded.created_at, excluded.removed)
