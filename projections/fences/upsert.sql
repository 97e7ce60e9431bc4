-- Rows as they are at the cursor that moves with them.
insert into fence
select * from json_populate_recordset(null::fence, $1::text::json)
    on conflict on constraint fence_pkey do update set
       (up_to, raised, raised_at) = (excluded.up_to, excluded.raised, excluded.raised_at)
