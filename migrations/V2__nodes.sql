-- The nodes that follow the log, so that a revocation can be waited for until it is in force on each of them.
--
-- A node may answer for its state only while it holds a lease. No clock of the database is compared with one of a node:
-- `renewals` counts, and whoever waits for a node measures by its own monotonic clock how long the count has stood still.
create table log.node (
    node_id     uuid        not null,
    name        text        not null,
    version     text        not null,
    address     text        not null,
    applied     bigint      not null,                 -- every position below is in the node's state
    leased      boolean     not null,                 -- false once it was waited out, until it has applied the head again
    renewals    bigint      not null,
    lease_ms    bigint      not null,                 -- how long a renewal lasts, at most
    started_at  timestamptz not null default now(),
    renewed_at  timestamptz not null default now(),   -- for people
    constraint node_pkey primary key (node_id),
    constraint node_applied_not_negative check (applied >= 0),
    constraint node_renewals_not_negative check (renewals >= 0),
    constraint node_lease_ms_bounds check (lease_ms between 100 and 3600000),
    constraint node_name_length check (char_length(name) between 1 and 253),
    constraint node_version_length check (char_length(version) <= 64),
    constraint node_address_length check (char_length(address) <= 512)
)
-- Updated every second or so: room for the new versions in the same page.
with (fillfactor = 20);

grant select, insert, update, delete on log.node to portcullis_service;
