PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE cursors (name TEXT PRIMARY KEY, stream TEXT NOT NULL, position INTEGER NOT NULL);
INSERT INTO "cursors" VALUES('mqtt','events',1);
INSERT INTO "cursors" VALUES('gone','events',3);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "facts" VALUES('boot','another-boot');
INSERT INTO "facts" VALUES('dropped',7);
INSERT INTO "facts" VALUES('dropped_unread',2);
INSERT INTO "facts" VALUES('known',20.0);
INSERT INTO "facts" VALUES('mono',99.0);
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload BLOB NOT NULL,
    known REAL NOT NULL,   -- seconds of known time at which it was written, see KnownTime
    wall REAL NOT NULL,    -- UNIX seconds by the wall clock, right or wrong
    synced INTEGER NOT NULL
);
INSERT INTO "messages" VALUES(1,'events',0,X'6669727374',12.5,1763700000.0,1);
INSERT INTO "messages" VALUES(2,'alert/webhook',1,X'6C6F77',12.5,1763700000.0,1);
INSERT INTO "messages" VALUES(3,'events',0,X'7365636F6E64',12.5,1763700000.0,1);
INSERT INTO "messages" VALUES(4,'alert/webhook',5,X'68696768',12.5,1763700000.0,1);
INSERT INTO "messages" VALUES(5,'events',0,X'64C3BC72',12.5,1763700000.0,1);
CREATE INDEX messages_of_a_stream ON messages (stream, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',5);
COMMIT;
