-- The tables of mlflow-oidc-auth 5.6.1 on SQLite, filled by its own store:
--   pip install mlflow-oidc-auth==5.6.1
--   python tests/dump_mlflow_oidc_auth.py > tests/mlflow-oidc-auth-5.6.1.sql
-- Nobody in here is real. There are no passwords and no hashes of any.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0565cf04c12e');
CREATE TABLE experiment_group_permissions (
	id INTEGER NOT NULL, 
	experiment_id VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_experiment_group_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_experiment_group UNIQUE (experiment_id, group_id)
);
INSERT INTO "experiment_group_permissions" VALUES(1,'1',1,'EDIT');
INSERT INTO "experiment_group_permissions" VALUES(2,'2',2,'READ');
INSERT INTO "experiment_group_permissions" VALUES(3,'2',3,'MANAGE');
CREATE TABLE experiment_group_regex_permissions (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_experiment_group_regex_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_experiment_group_regex UNIQUE (regex, group_id)
);
INSERT INTO "experiment_group_regex_permissions" VALUES(1,'.*one$',5,2,'READ');
CREATE TABLE experiment_permissions (
	id INTEGER NOT NULL, 
	experiment_id VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_experiment_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT unique_experiment_user UNIQUE (experiment_id, user_id)
);
INSERT INTO "experiment_permissions" VALUES(1,'1',1,'MANAGE');
INSERT INTO "experiment_permissions" VALUES(2,'1',3,'READ');
INSERT INTO "experiment_permissions" VALUES(3,'1',6,'EDIT');
INSERT INTO "experiment_permissions" VALUES(4,'2',4,'NO_PERMISSIONS');
INSERT INTO "experiment_permissions" VALUES(5,'77',1,'MANAGE');
CREATE TABLE experiment_regex_permissions (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_experiment_regex_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT unique_experiment_user_regex UNIQUE (regex, user_id)
);
INSERT INTO "experiment_regex_permissions" VALUES(1,'tea',1,4,'EDIT');
CREATE TABLE groups (
	id INTEGER NOT NULL, 
	group_name VARCHAR(255) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (group_name)
);
INSERT INTO "groups" VALUES(1,'/research');
INSERT INTO "groups" VALUES(2,'guests');
INSERT INTO "groups" VALUES(3,'mlflow_admins');
INSERT INTO "groups" VALUES(4,'empty');
CREATE TABLE registered_model_group_permissions (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), prompt BOOLEAN, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_registered_model_group_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_name_group UNIQUE (name, group_id)
);
INSERT INTO "registered_model_group_permissions" VALUES(1,'churn',1,'READ',0);
INSERT INTO "registered_model_group_permissions" VALUES(2,'greeting',1,'READ',1);
CREATE TABLE registered_model_group_regex_permissions (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	prompt BOOLEAN, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_registered_model_group_regex_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_name_group_regex UNIQUE (regex, group_id, prompt)
);
INSERT INTO "registered_model_group_regex_permissions" VALUES(1,'nothing-like-this',1,2,'MANAGE',0);
CREATE TABLE registered_model_permissions (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_registered_model_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT unique_name_user UNIQUE (name, user_id)
);
INSERT INTO "registered_model_permissions" VALUES(1,'churn',1,'MANAGE');
INSERT INTO "registered_model_permissions" VALUES(2,'greeting',1,'EDIT');
INSERT INTO "registered_model_permissions" VALUES(3,'lost',3,'READ');
CREATE TABLE registered_model_regex_permissions (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	prompt BOOLEAN, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_registered_model_regex_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT unique_name_user_regex UNIQUE (regex, user_id, prompt)
);
INSERT INTO "registered_model_regex_permissions" VALUES(1,'^chu',1,4,'READ',0);
INSERT INTO "registered_model_regex_permissions" VALUES(2,'greet.*',1,3,'EDIT',1);
INSERT INTO "registered_model_regex_permissions" VALUES(3,'.*',9,3,'NO_PERMISSIONS',1);
CREATE TABLE user_groups (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_user_groups FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT fk_group_id_user_groups FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_user_group UNIQUE (user_id, group_id)
);
INSERT INTO "user_groups" VALUES(1,2,1);
INSERT INTO "user_groups" VALUES(2,3,1);
INSERT INTO "user_groups" VALUES(3,3,2);
INSERT INTO "user_groups" VALUES(4,4,2);
INSERT INTO "user_groups" VALUES(5,5,3);
CREATE TABLE users (
	id INTEGER NOT NULL, 
	username VARCHAR(255), 
	display_name VARCHAR(255), 
	password_hash VARCHAR(255), 
	is_admin BOOLEAN, is_service_account BOOLEAN, password_expiration DATETIME, 
	PRIMARY KEY (id), 
	UNIQUE (username)
);
INSERT INTO "users" VALUES(1,'ann@example.com','The user ann@example.com','not-a-hash',0,0,NULL);
INSERT INTO "users" VALUES(2,'ben@example.com','The user ben@example.com','not-a-hash',0,0,NULL);
INSERT INTO "users" VALUES(3,'cleo','The user cleo','not-a-hash',0,0,NULL);
INSERT INTO "users" VALUES(4,'dora','The user dora','not-a-hash',0,0,NULL);
INSERT INTO "users" VALUES(5,'root@example.com','The user root@example.com','not-a-hash',1,0,NULL);
INSERT INTO "users" VALUES(6,'trainer','The user trainer','not-a-hash',0,1,NULL);
INSERT INTO "users" VALUES(7,'gone','The user gone','not-a-hash',0,0,NULL);
COMMIT;
