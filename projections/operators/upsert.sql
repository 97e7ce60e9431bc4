-- Rows as they are at the cursor that moves with them.
insert into operator
select * from json_populate_recordset(null::operator, $1::text::json)
    on conflict on constraint operator_pkey do update set
       (name, role, removed, created_at, keys, keys_end_at)
     = (excluded.name, excluded.role, excluded.removed, excluded.created_at, excluded.keys, excluded.keys_end_at)
