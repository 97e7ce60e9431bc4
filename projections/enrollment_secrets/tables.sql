-- Enrollment secrets, without their verifiers.
create table enrollment_secret (
    id            text        collate "C" not null,
    pool          text        collate "C" not null,
    state         text        not null, -- live, superseded, disabled
    overlap_until timestamptz,
    cidrs         text[]      not null,
    name_pattern  text,
    uses_max      bigint,
    uses          bigint      not null,
    pending       bigint      not null,
    expires_at    timestamptz,
    approval      boolean     not null,
    created_at    timestamptz not null,
    issued        bigint      not null,
    refused_below bigint      not null, -- by all fences over it: it is refused if it was issued at a lower position
    parent        text        collate "C",
    constraint enrollment_secret_pkey primary key (id)
);
