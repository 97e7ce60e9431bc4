-- Every restore that the log tells of.
select position, entry from log.event where kind = 'log.restored' order by position
