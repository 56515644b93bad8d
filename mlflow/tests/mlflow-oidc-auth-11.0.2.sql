-- The tables of mlflow-oidc-auth 11.0.2 on SQLite, filled by its own store:
--   pip install mlflow-oidc-auth==11.0.2
--   python tests/dump_mlflow_oidc_auth.py > tests/mlflow-oidc-auth-11.0.2.sql
-- Nobody in here is real. There are no passwords and no hashes of any.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('e1f2a3b4c5d6');
CREATE TABLE auth_sessions (
	id INTEGER NOT NULL, 
	session_id VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	provider_id VARCHAR(255), 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	last_seen_at DATETIME, 
	expires_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	encrypted_tokens TEXT, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_auth_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
CREATE TABLE auth_state (
	id INTEGER NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	nonce VARCHAR(255), 
	code_verifier VARCHAR(255), 
	provider_id VARCHAR(255), 
	relay_state TEXT, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	expires_at DATETIME NOT NULL, binding_hash VARCHAR(64), 
	PRIMARY KEY (id)
);
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
CREATE TABLE "experiment_group_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_experiment_group_regex_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_experiment_group_regex_ws UNIQUE (regex, group_id, workspace)
);
INSERT INTO "experiment_group_regex_permissions" VALUES(1,'.*one$',5,2,'READ','*');
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
CREATE TABLE "experiment_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_experiment_regex_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_experiment_user_regex_ws UNIQUE (regex, user_id, workspace)
);
INSERT INTO "experiment_regex_permissions" VALUES(1,'tea',1,4,'EDIT','*');
CREATE TABLE "gateway_endpoint_group_permissions" (
	id INTEGER NOT NULL, 
	endpoint_id VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_endpoint_group_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_gw_endpoint_group_perm_workspace_group UNIQUE (workspace, endpoint_id, group_id)
);
INSERT INTO "gateway_endpoint_group_permissions" VALUES(1,'chat',1,'USE','default');
CREATE TABLE "gateway_endpoint_group_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_endpoint_group_regex_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_endpoint_group_regex_ws UNIQUE (regex, group_id, workspace)
);
CREATE TABLE "gateway_endpoint_permissions" (
	id INTEGER NOT NULL, 
	endpoint_id VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_endpoint_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_gw_endpoint_perm_workspace_user UNIQUE (workspace, endpoint_id, user_id)
);
INSERT INTO "gateway_endpoint_permissions" VALUES(1,'chat',1,'USE','default');
CREATE TABLE "gateway_endpoint_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_endpoint_regex_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_endpoint_user_regex_ws UNIQUE (regex, user_id, workspace)
);
INSERT INTO "gateway_endpoint_regex_permissions" VALUES(1,'ch.*',1,4,'USE','*');
CREATE TABLE "gateway_model_definition_group_permissions" (
	id INTEGER NOT NULL, 
	model_definition_id VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_model_def_group_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_gw_model_def_group_perm_workspace_group UNIQUE (workspace, model_definition_id, group_id)
);
CREATE TABLE "gateway_model_definition_group_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_model_def_group_regex_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_model_def_group_regex_ws UNIQUE (regex, group_id, workspace)
);
CREATE TABLE "gateway_model_definition_permissions" (
	id INTEGER NOT NULL, 
	model_definition_id VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_model_def_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_gw_model_def_perm_workspace_user UNIQUE (workspace, model_definition_id, user_id)
);
INSERT INTO "gateway_model_definition_permissions" VALUES(1,'small',1,'USE','default');
CREATE TABLE "gateway_model_definition_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_model_def_regex_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_model_def_user_regex_ws UNIQUE (regex, user_id, workspace)
);
CREATE TABLE "gateway_secret_group_permissions" (
	id INTEGER NOT NULL, 
	secret_id VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_secret_group_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_gw_secret_group_perm_workspace_group UNIQUE (workspace, secret_id, group_id)
);
CREATE TABLE "gateway_secret_group_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_secret_group_regex_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_secret_group_regex_ws UNIQUE (regex, group_id, workspace)
);
CREATE TABLE "gateway_secret_permissions" (
	id INTEGER NOT NULL, 
	secret_id VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_secret_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_gw_secret_perm_workspace_user UNIQUE (workspace, secret_id, user_id)
);
INSERT INTO "gateway_secret_permissions" VALUES(1,'vault',1,'MANAGE','default');
CREATE TABLE "gateway_secret_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_gateway_secret_regex_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_secret_user_regex_ws UNIQUE (regex, user_id, workspace)
);
CREATE TABLE groups (
	id INTEGER NOT NULL, 
	group_name VARCHAR(255) NOT NULL, external_id VARCHAR(255), created_at DATETIME, updated_at DATETIME, managed_by VARCHAR(255) DEFAULT 'manual' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (group_name)
);
INSERT INTO "groups" VALUES(1,'/research',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00','manual');
INSERT INTO "groups" VALUES(2,'guests',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00','manual');
INSERT INTO "groups" VALUES(3,'mlflow_admins',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00','manual');
INSERT INTO "groups" VALUES(4,'empty',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00','manual');
CREATE TABLE mcp_server_group_permissions (
	id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_mcp_server_group_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_mcp_server_group_perm_workspace_name_group UNIQUE (workspace, name, group_id)
);
INSERT INTO "mcp_server_group_permissions" VALUES(1,'io.example/tools',1,'READ','default');
CREATE TABLE mcp_server_permissions (
	id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_mcp_server_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_mcp_server_perm_workspace_name_user UNIQUE (workspace, name, user_id)
);
INSERT INTO "mcp_server_permissions" VALUES(1,'io.example/tools',1,'EDIT','default');
CREATE TABLE "registered_model_group_permissions" (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	prompt BOOLEAN, 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_registered_model_group_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_rm_group_perm_workspace_name_group UNIQUE (workspace, name, group_id)
);
INSERT INTO "registered_model_group_permissions" VALUES(1,'churn',1,'READ',0,'default');
INSERT INTO "registered_model_group_permissions" VALUES(2,'greeting',1,'READ',1,'default');
CREATE TABLE "registered_model_group_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	prompt BOOLEAN, 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_group_id_registered_model_group_regex_permissions FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_name_group_regex_ws UNIQUE (regex, group_id, prompt, workspace)
);
INSERT INTO "registered_model_group_regex_permissions" VALUES(1,'nothing-like-this',1,2,'MANAGE',0,'*');
CREATE TABLE "registered_model_permissions" (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_registered_model_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_rm_perm_workspace_name_user UNIQUE (workspace, name, user_id)
);
INSERT INTO "registered_model_permissions" VALUES(1,'churn',1,'MANAGE','default');
INSERT INTO "registered_model_permissions" VALUES(2,'greeting',1,'EDIT','default');
INSERT INTO "registered_model_permissions" VALUES(3,'lost',3,'READ','default');
CREATE TABLE "registered_model_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	prompt BOOLEAN, 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_registered_model_regex_permissions FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_name_user_regex_ws UNIQUE (regex, user_id, prompt, workspace)
);
INSERT INTO "registered_model_regex_permissions" VALUES(1,'^chu',1,4,'READ',0,'*');
INSERT INTO "registered_model_regex_permissions" VALUES(2,'greet.*',1,3,'EDIT',1,'*');
INSERT INTO "registered_model_regex_permissions" VALUES(3,'.*',9,3,'NO_PERMISSIONS',1,'*');
CREATE TABLE saml_assertions (
	id INTEGER NOT NULL, 
	assertion_id VARCHAR(255) NOT NULL, 
	provider_id VARCHAR(255) NOT NULL, 
	not_on_or_after DATETIME NOT NULL, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE scim_activity (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	token_id INTEGER, 
	token_name VARCHAR(255), 
	method VARCHAR(16) NOT NULL, 
	path VARCHAR(255) NOT NULL, 
	resource_id VARCHAR(255), 
	status INTEGER NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	error VARCHAR(500), 
	duration_ms INTEGER, 
	PRIMARY KEY (id)
);
CREATE TABLE scim_tokens (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	token_hash VARCHAR(255) NOT NULL, 
	token_prefix VARCHAR(32) NOT NULL, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	created_by VARCHAR(255), 
	last_used_at DATETIME, 
	expires_at DATETIME, 
	revoked_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_scim_tokens_name UNIQUE (name)
);
CREATE TABLE scorer_group_permissions (
	id INTEGER NOT NULL, 
	experiment_id VARCHAR(255) NOT NULL, 
	scorer_name VARCHAR(256) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_scorer_group_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_scorer_group UNIQUE (experiment_id, scorer_name, group_id)
);
INSERT INTO "scorer_group_permissions" VALUES(1,'1','tone/formal',1,'READ');
CREATE TABLE "scorer_group_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_scorer_group_regex_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_scorer_group_regex_ws UNIQUE (regex, group_id, workspace)
);
CREATE TABLE scorer_permissions (
	id INTEGER NOT NULL, 
	experiment_id VARCHAR(255) NOT NULL, 
	scorer_name VARCHAR(256) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT fk_scorer_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT unique_scorer_user UNIQUE (experiment_id, scorer_name, user_id)
);
INSERT INTO "scorer_permissions" VALUES(1,'1','tone/formal',1,'MANAGE');
CREATE TABLE "scorer_regex_permissions" (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT '*' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_scorer_regex_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_scorer_user_regex_ws UNIQUE (regex, user_id, workspace)
);
INSERT INTO "scorer_regex_permissions" VALUES(1,'tone.*',1,4,'READ','*');
CREATE TABLE user_groups (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, managed_by VARCHAR(255) DEFAULT 'manual' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_id_user_groups FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT fk_group_id_user_groups FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT unique_user_group UNIQUE (user_id, group_id)
);
INSERT INTO "user_groups" VALUES(1,2,1,'manual');
INSERT INTO "user_groups" VALUES(2,3,1,'manual');
INSERT INTO "user_groups" VALUES(3,3,2,'manual');
INSERT INTO "user_groups" VALUES(4,4,2,'manual');
INSERT INTO "user_groups" VALUES(5,5,3,'manual');
CREATE TABLE user_identities (
	id INTEGER NOT NULL, 
	provider_id VARCHAR(255) NOT NULL, 
	subject VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	last_login_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_identities_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_user_identities_provider_subject UNIQUE (provider_id, subject)
);
CREATE TABLE user_tokens (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	token_prefix VARCHAR(32), 
	token_hash VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(255), 
	expires_at DATETIME NOT NULL, 
	last_used_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_user_tokens_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_user_tokens_user_id_name UNIQUE (user_id, name)
);
CREATE TABLE "users" (
	id INTEGER NOT NULL, 
	username VARCHAR(255), 
	display_name VARCHAR(255), 
	is_admin BOOLEAN, 
	is_service_account BOOLEAN, 
	active BOOLEAN DEFAULT 1 NOT NULL, 
	managed_by VARCHAR(255) DEFAULT 'manual' NOT NULL, 
	external_id VARCHAR(255), 
	created_at DATETIME, 
	updated_at DATETIME, service_account_source VARCHAR(255), 
	PRIMARY KEY (id), 
	UNIQUE (username)
);
INSERT INTO "users" VALUES(1,'ann@example.com','The user ann@example.com',0,0,1,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00',NULL);
INSERT INTO "users" VALUES(2,'ben@example.com','The user ben@example.com',0,0,1,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00',NULL);
INSERT INTO "users" VALUES(3,'cleo','The user cleo',0,0,1,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00',NULL);
INSERT INTO "users" VALUES(4,'dora','The user dora',0,0,1,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00',NULL);
INSERT INTO "users" VALUES(5,'root@example.com','The user root@example.com',1,0,1,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00',NULL);
INSERT INTO "users" VALUES(6,'trainer','The user trainer',0,1,1,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00','internal');
INSERT INTO "users" VALUES(7,'gone','The user gone',0,0,0,'manual',NULL,'2026-01-01 00:00:00','2026-01-01 00:00:00',NULL);
CREATE TABLE "workspace_group_permissions" (
	workspace VARCHAR(255) NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255) NOT NULL, 
	rule_id INTEGER, 
	CONSTRAINT pk_workspace_group_permissions PRIMARY KEY (workspace, group_id), 
	CONSTRAINT fk_workspace_group_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT fk_workspace_group_permissions_rule_id FOREIGN KEY(rule_id) REFERENCES workspace_group_rules (id)
);
INSERT INTO "workspace_group_permissions" VALUES('team',1,'USE',NULL);
CREATE TABLE workspace_group_regex_permissions (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	group_id INTEGER NOT NULL, 
	permission VARCHAR(255) NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_workspace_group_regex_perm_group_id FOREIGN KEY(group_id) REFERENCES groups (id), 
	CONSTRAINT uq_workspace_regex_group UNIQUE (regex, group_id)
);
CREATE TABLE workspace_group_rules (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	pattern VARCHAR(256) NOT NULL, 
	permission VARCHAR(255) NOT NULL, 
	mode VARCHAR(16) NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	created_by VARCHAR(255), 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_workspace_group_rules_name UNIQUE (name)
);
CREATE TABLE workspace_permissions (
	workspace VARCHAR(255) NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_workspace_permissions PRIMARY KEY (workspace, user_id), 
	CONSTRAINT fk_workspace_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "workspace_permissions" VALUES('team',1,'MANAGE');
INSERT INTO "workspace_permissions" VALUES('team',4,'READ');
CREATE TABLE workspace_regex_permissions (
	id INTEGER NOT NULL, 
	regex VARCHAR(255) NOT NULL, 
	priority INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	permission VARCHAR(255) NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT fk_workspace_regex_perm_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_workspace_regex_user UNIQUE (regex, user_id)
);
INSERT INTO "workspace_regex_permissions" VALUES(1,'te.*',1,3,'USE');
CREATE INDEX ix_user_identities_user_id ON user_identities (user_id);
CREATE UNIQUE INDEX ix_auth_sessions_session_id ON auth_sessions (session_id);
CREATE INDEX ix_auth_sessions_user_id ON auth_sessions (user_id);
CREATE INDEX ix_auth_sessions_expires_at ON auth_sessions (expires_at);
CREATE UNIQUE INDEX ix_auth_state_state ON auth_state (state);
CREATE INDEX ix_auth_state_expires_at ON auth_state (expires_at);
CREATE UNIQUE INDEX ix_groups_external_id ON groups (external_id);
CREATE UNIQUE INDEX ix_scim_tokens_token_prefix ON scim_tokens (token_prefix);
CREATE UNIQUE INDEX ix_saml_assertions_assertion_id ON saml_assertions (assertion_id);
CREATE INDEX ix_saml_assertions_not_on_or_after ON saml_assertions (not_on_or_after);
CREATE INDEX ix_scim_activity_at ON scim_activity (at);
CREATE INDEX ix_scim_activity_token_id_at ON scim_activity (token_id, at);
CREATE UNIQUE INDEX ix_user_tokens_token_prefix ON user_tokens (token_prefix);
CREATE UNIQUE INDEX ix_users_external_id ON users (external_id);
CREATE INDEX ix_workspace_group_permissions_rule_id ON workspace_group_permissions (rule_id);
COMMIT;
