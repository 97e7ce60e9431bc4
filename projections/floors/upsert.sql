-- Rows as they are at the cursor that moves with them.
insert into floor
select * from json_populate_recordset(null::floor, $1::text::json)
    on conflict on constraint floor_pkey do update set refused_below = excluded.refused_below
