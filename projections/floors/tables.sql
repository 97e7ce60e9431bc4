-- Where the fences stand: of each scope, the first position that is not refused. What it descends from and where it was
-- issued stands in each row, and never whether it is fenced: one fence would rewrite a million rows.
create table floor (
    scope         text   collate "C" not null, -- everything, pool:…, worker:…; enrollment_secret:… with all fences over it
    refused_below bigint not null,
    constraint floor_pkey primary key (scope)
);
