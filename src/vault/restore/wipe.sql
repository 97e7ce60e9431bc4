-- Removes what an earlier attempt has left: nothing of it was ever served from.
do $$
declare
    name text;
begin
    drop schema if exists log cascade;
    drop schema if exists projection cascade;
    for name in
        select nspname from pg_namespace
         where obj_description(oid, 'pg_namespace') = 'a projection of Portcullis'
    loop
        execute format('drop schema %I cascade', name);
    end loop;
    drop table if exists public.refinery_schema_history;
end
$$
