-- Which cluster this is, and on which timeline it writes. A standby writes on none.
select s.system_identifier as system,
       case when not pg_is_in_recovery()
            then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
       end as timeline
  from pg_control_system() s
