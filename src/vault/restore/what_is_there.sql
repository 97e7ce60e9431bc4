-- Whether a restore has begun here, and whether there is anything of ours.
select exists (select from pg_namespace where nspname = 'portcullis_restore') as is_marked,
       not exists (select from pg_namespace where nspname in ('log', 'projection'))
           and to_regclass('public.refinery_schema_history') is null as is_empty
