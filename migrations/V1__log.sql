-- The log: the one table of truth, what guards it, and the role that the service runs as.
-- This is run by the owner. The service itself can add to the log and read it, and nothing else.

-- Roles belong to the whole cluster, and several databases of one cluster may be migrated at once: whoever comes second
-- finds the role made, or loses the race for its name.
do $$
begin
    if to_regrole('portcullis_service') is null then
        create role portcullis_service nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
end
$$;

-- Where one login both migrates and serves, it has to be a member to take the role. A superuser is one already. Who may
-- not grant it has had the role made by a DBA, who also says who is a member.
do $$
begin
    if not pg_has_role(current_user, 'portcullis_service', 'member') then
        execute format('grant portcullis_service to %I', current_user);
    end if;
exception
    -- The last is `tuple concurrently updated`: another database of the cluster is being given the same grant.
    when insufficient_privilege or unique_violation or internal_error then null;
end
$$;

create schema log;

-- Says which log this is and under which root key, so that a wrong key or a wrong database is noticed at start.
create table log.genesis (
    only_row       boolean     not null default true,
    log_id         uuid        not null,
    root_key_check bytea       not null,
    created_at     timestamptz not null,
    constraint genesis_pkey primary key (only_row),
    constraint genesis_only_row check (only_row)
);

-- Where the log ends. An append moves it from the version that the writer saw, or does nothing at all.
create table log.head (
    only_row      boolean     not null default true,
    version       bigint      not null, -- counts append statements
    next_position bigint      not null, -- counts events
    mac           bytea       not null, -- of the last event: the next one's chains to it
    merkle_root   bytea       not null,
    frontier      bytea       not null, -- the compact range: one hash for each full subtree, largest first
    recorded_at   timestamptz,          -- of the last event; null while there is none
    constraint head_pkey primary key (only_row),
    constraint head_only_row check (only_row),
    constraint head_version_not_negative check (version >= 0),
    constraint head_next_position_not_negative check (next_position >= 0),
    constraint head_mac_length check (octet_length(mac) = 32),
    constraint head_merkle_root_length check (octet_length(merkle_root) = 32),
    constraint head_frontier_hashes check (octet_length(frontier) % 32 = 0 and octet_length(frontier) <= 64 * 32)
)
-- One row, updated by every append: room for the new version in the same page keeps each update off the index.
with (fillfactor = 10);

-- `entry` is the event. The columns after `leaf_hash` are copied out of it for search, and verification checks them.
create table log.event (
    position     bigint      not null,
    entry        bytea       not null,
    mac          bytea       not null,
    leaf_hash    bytea       not null,
    recorded_at  timestamptz not null,
    kind         text        not null,
    schema       integer     not null,
    subject_kind text        not null,
    subject_id   text        not null,
    pool         text,
    actor        text        not null,
    incident     text,
    command_id   uuid        not null,
    constraint event_pkey primary key (position),
    constraint event_position_not_negative check (position >= 0),
    constraint event_entry_length check (octet_length(entry) <= 65535),
    constraint event_mac_length check (octet_length(mac) = 32),
    constraint event_leaf_hash_length check (octet_length(leaf_hash) = 32)
) partition by range (position);

create index event_kind_position on log.event (kind, position);
create index event_subject_position on log.event (subject_kind, subject_id, position);
create index event_command_id on log.event (command_id);

-- What became of each command, so that a repeat gets the first answer. `position` is the head when it was decided.
create table log.command (
    command_id  uuid        not null,
    fingerprint bytea       not null,
    position    bigint      not null,
    recorded_at timestamptz not null,
    outcome     bytea       not null,
    constraint command_pkey primary key (command_id),
    constraint command_position_not_negative check (position >= 0)
);

-- Outcomes that hold a secret, sealed under a key that only the caller can derive, and kept for a day. The one table of
-- the log from which rows are removed.
create table log.sealed_outcome (
    command_id uuid        not null,
    sealed     bytea       not null,
    expires_at timestamptz not null,
    constraint sealed_outcome_pkey primary key (command_id)
);

create index sealed_outcome_expires_at on log.sealed_outcome (expires_at);

-- Grants stop the service; these triggers stop the owner, a migration gone wrong, and a hand at a SQL prompt.
create function log.refuse_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'append-only: % of %.% is refused', lower(tg_op), tg_table_schema, tg_table_name
        using errcode = 'restrict_violation',
              hint = 'What happened is not changed. Append an event that corrects it.';
end
$$;

create function log.refuse_head_going_back() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if new.version <> old.version + 1 or new.next_position < old.next_position then
        raise exception 'the head only moves forward: version % to %, position % to % is refused',
            old.version, new.version, old.next_position, new.next_position
            using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;

create trigger event_append_only before update or delete on log.event
    for each row execute function log.refuse_change();
create trigger event_no_truncate before truncate on log.event
    for each statement execute function log.refuse_change();
create trigger command_append_only before update or delete on log.command
    for each row execute function log.refuse_change();
create trigger command_no_truncate before truncate on log.command
    for each statement execute function log.refuse_change();
create trigger genesis_append_only before update or delete on log.genesis
    for each row execute function log.refuse_change();
create trigger genesis_no_truncate before truncate on log.genesis
    for each statement execute function log.refuse_change();
create trigger head_no_delete before delete on log.head
    for each row execute function log.refuse_change();
create trigger head_no_truncate before truncate on log.head
    for each statement execute function log.refuse_change();
create trigger head_forward before update on log.head
    for each row execute function log.refuse_head_going_back();

-- `always`: an ordinary trigger is silent in a session that sets session_replication_role to replica.
alter table log.event enable always trigger event_append_only;
alter table log.event enable always trigger event_no_truncate;
alter table log.command enable always trigger command_append_only;
alter table log.command enable always trigger command_no_truncate;
alter table log.genesis enable always trigger genesis_append_only;
alter table log.genesis enable always trigger genesis_no_truncate;
alter table log.head enable always trigger head_no_delete;
alter table log.head enable always trigger head_no_truncate;
alter table log.head enable always trigger head_forward;

-- Makes every missing partition up to the one that holds position `through`, and answers how many it made. It runs as
-- the owner, because the service may not create tables.
create function log.make_partitions(through bigint) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    partition_positions constant bigint := 1 << 20;
    -- A service gone mad, or in wrong hands, could fill the catalog otherwise.
    made_max constant bigint := 64;
    first_missing bigint;
    last_wanted bigint := through / partition_positions;
    name text;
    partition bigint;
begin
    if through is null or through < 0 then
        raise exception 'log.make_partitions: a position is not negative' using errcode = 'invalid_parameter_value';
    end if;
    -- Two services that see the end of a partition together would both make the next one.
    perform pg_advisory_xact_lock(hashtextextended('portcullis: log partitions', 0));
    -- After the newest one, and not in every gap: older partitions may have been archived and dropped.
    select coalesce(max(substring(child.relname from '^event_p([0-9]+)$')::bigint) + 1, 0)
        into first_missing
        from pg_inherits
        join pg_class child on child.oid = inhrelid
        where inhparent = 'log.event'::regclass;
    if last_wanted - first_missing >= made_max then
        raise exception 'log.make_partitions: position % is more than % partitions ahead', through, made_max
            using errcode = 'invalid_parameter_value';
    end if;
    for partition in first_missing .. last_wanted loop
        name := 'event_p' || partition;
        -- Made apart and then attached: `create table ... partition of` would lock out readers and writers of the log.
        execute format('create table log.%I (like log.event including defaults including constraints)', name);
        execute format('alter table log.event attach partition log.%I for values from (%s) to (%s)',
            name, partition * partition_positions, (partition + 1) * partition_positions);
        -- Row triggers come with the parent; those on truncate do not.
        execute format('create trigger event_no_truncate before truncate on log.%I '
            'for each statement execute function log.refuse_change()', name);
        execute format('alter table log.%I enable always trigger event_no_truncate', name);
    end loop;
    return greatest(last_wanted - first_missing + 1, 0);
end
$$;

select log.make_partitions((1 << 20) + 1);

-- For people with a SQL client.
create view log.entries as
select
    position,
    recorded_at,
    kind,
    subject_kind,
    subject_id,
    pool,
    actor,
    convert_from(entry, 'UTF8')::jsonb as entry
from log.event;

revoke all on function log.make_partitions(bigint) from public;
revoke all on function log.refuse_change() from public;
revoke all on function log.refuse_head_going_back() from public;

grant usage on schema log to portcullis_service;
grant select, insert on log.genesis, log.head, log.event, log.command to portcullis_service;
grant update on log.head to portcullis_service;
grant select, insert, delete on log.sealed_outcome to portcullis_service;
grant select on log.entries to portcullis_service;
grant execute on function log.make_partitions(bigint) to portcullis_service;

-- So that the service can tell that a database is newer than itself.
grant usage on schema public to portcullis_service;
grant select on public.refinery_schema_history to portcullis_service;
