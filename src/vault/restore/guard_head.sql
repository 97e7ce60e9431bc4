-- And again nobody moves it back.
alter table log.head enable always trigger head_forward
