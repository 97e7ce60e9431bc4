-- Where the projections stand, and who may read them. The projections themselves are made, and thrown away, by the
-- service: what can be rebuilt is no matter of a migration.

do $$
begin
    if to_regrole('portcullis_reader') is null then
        create role portcullis_reader nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
end
$$;

create schema projection;

-- How many events the rows of a projection hold. Rows and cursor change in one transaction.
create table projection.cursor (
    schema_name text        not null, -- where the rows are: `workers_1`
    name        text        not null,
    version     integer     not null,
    position    bigint      not null, -- the position of the first event that the rows do not hold
    built_at    timestamptz not null,
    constraint cursor_pkey primary key (schema_name),
    constraint cursor_position_not_negative check (position >= 0)
)
-- Updated with every batch: room for the new version in the same page keeps each update off the index.
with (fillfactor = 10);

-- What operators asked for: a rebuild, or a verification. The node that keeps the projection does it.
create table projection.job (
    job_id       uuid        not null,
    schema_name  text        not null,
    kind         text        not null,
    state        text        not null,
    rows_done    bigint      not null,
    rows_total   bigint      not null,
    position     bigint,               -- of the rows that were made, or compared
    finding      text,                 -- why it failed, or the first difference
    requested_at timestamptz not null,
    finished_at  timestamptz,
    constraint job_pkey primary key (job_id),
    constraint job_kind_known check (kind in ('rebuild', 'verify')),
    constraint job_state_known check (state in ('waiting', 'running', 'done', 'differs', 'failed'))
);

-- To ask twice for what is not done yet is to ask once.
create unique index job_unfinished on projection.job (schema_name, kind) where state in ('waiting', 'running');
create index job_newest on projection.job (schema_name, requested_at desc);

-- When each key was last used. No part of the log, and so of no rebuild: what is lost here is lost.
create table projection.key_used (
    key_id  text        collate "C" not null,
    used_at timestamptz not null,
    constraint key_used_pkey primary key (key_id)
)
with (fillfactor = 70);

-- Nodes that have left, as they were when they were last heard of. The log names a node only where a barrier asked it, so
-- this is no projection of the log: it is of no rebuild, and what is lost here is lost.
create table projection.node_left (
    node_id      uuid        not null,
    name         text        not null,
    version      text        not null,
    address      text        not null,
    applied      bigint      not null,
    started_at   timestamptz not null,
    last_seen_at timestamptz not null,
    constraint node_left_pkey primary key (node_id)
);

-- It runs as the owner: the service itself changes nothing here.
create function projection.remember_node() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into projection.node_left values
        (old.node_id, old.name, old.version, old.address, old.applied, old.started_at, old.renewed_at)
        on conflict on constraint node_left_pkey do update set
           (name, version, address, applied, last_seen_at)
         = (excluded.name, excluded.version, excluded.address, excluded.applied, excluded.last_seen_at);
    return old;
end
$$;

create trigger node_is_remembered after delete on log.node for each row execute function projection.remember_node();

-- Every node that was ever on the list of those that follow the log.
create view projection.nodes_seen as
    select node_id, name, version, address, applied, started_at, renewed_at as last_seen_at, true as listed
      from log.node
    union all
    select gone.node_id, gone.name, gone.version, gone.address, gone.applied, gone.started_at, gone.last_seen_at, false
      from projection.node_left gone
     where not exists (select from log.node here where here.node_id = gone.node_id);

-- A schema for one version of a projection. It runs as the owner, because the service may not make schemas.
create function projection.make_schema(name text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null or name !~ '^[a-z][a-z_]{0,40}_[0-9]{1,6}(_next)?$' then
        raise exception 'projection.make_schema: `%` is no name of a projection', name
            using errcode = 'invalid_parameter_value';
    end if;
    if to_regnamespace(quote_ident(name)) is null then
        execute format('create schema %I', name);
        execute format('comment on schema %I is %L', name, 'a projection of Portcullis');
    elsif obj_description(to_regnamespace(quote_ident(name)), 'pg_namespace') is distinct from 'a projection of Portcullis' then
        raise exception 'projection.make_schema: `%` is a schema of somebody else', name using errcode = 'duplicate_schema';
    end if;
    execute format('grant usage, create on schema %I to portcullis_service', name);
end
$$;

create function projection.drop_schema(name text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regnamespace(quote_ident(name)) is not null
        and obj_description(to_regnamespace(quote_ident(name)), 'pg_namespace') is distinct from 'a projection of Portcullis'
    then
        raise exception 'projection.drop_schema: `%` is not a projection', name using errcode = 'insufficient_privilege';
    end if;
    execute format('drop schema if exists %I cascade', name);
end
$$;

revoke all on function projection.remember_node() from public;
revoke all on function projection.make_schema(text) from public;
revoke all on function projection.drop_schema(text) from public;
grant execute on function projection.make_schema(text), projection.drop_schema(text) to portcullis_service;

-- `create` is for the views by which the projections are read whatever their version.
grant usage, create on schema projection to portcullis_service;
grant select, insert, update, delete on projection.cursor, projection.job, projection.key_used to portcullis_service;

grant usage on schema projection to portcullis_reader;
grant select on projection.cursor, projection.key_used, projection.nodes_seen to portcullis_reader;
