-- API keys and static secrets, of workers and of operators, without their verifiers.
create table key (
    id            text        collate "C" not null,
    issued        bigint      not null, -- the position at which it was issued: the order of lists
    kind          text        not null, -- api_key, static_secret
    worker        text        collate "C", -- the one that it was made for
    sharers       text[]      collate "C", -- every worker that may present it, where it is more than one
    enrolled_by   text        collate "C", -- the enrollment secret that let its worker in
    sharers_by    text[]      collate "C", -- those of the sharers, in the same order
    operator      text        collate "C",
    pool          text        collate "C",
    state         text        not null, -- live, superseded, revoked; refused: it came of what a fence refuses
    overlap_until timestamptz,
    expires_at    timestamptz,
    ends_at       timestamptz, -- the earlier of both
    created_at    timestamptz not null,
    parent        text        collate "C",
    derived       boolean     not null,
    shared        boolean     not null, -- several workers have it, or have its value
    constraint key_pkey primary key (id)
);
