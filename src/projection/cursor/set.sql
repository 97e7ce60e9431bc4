-- A build has taken its place.
insert into projection.cursor (schema_name, name, version, position, built_at) values ($1, $2, $3, $4, now())
    on conflict on constraint cursor_pkey do update set (position, built_at) = (excluded.position, excluded.built_at)
