-- Where each key was used from, beside when. Like the last uses, no part of the log, and so of no rebuild.

-- A key that was shown and never accepted has no time of use, and addresses all the same.
alter table projection.key_used
    alter column used_at drop not null,
    -- Null for a key that was used before this was noted: nobody knows since when.
    add column first_used_at timestamptz,
    -- How often an address had to give way to a newer one.
    add column sources_forgotten bigint not null default 0;

create table projection.key_source (
    key_id        text        collate "C" not null,
    address       inet        not null,
    first_seen_at timestamptz not null,
    last_seen_at  timestamptz not null,
    constraint key_source_pkey primary key (key_id, address)
)
with (fillfactor = 70);

-- Who else comes from here.
create index key_source_address on projection.key_source (address);

grant select, insert, update, delete on projection.key_source to portcullis_service;
grant select on projection.key_source to portcullis_reader;
