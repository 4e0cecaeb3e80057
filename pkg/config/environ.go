package config

import (
	"strconv"
	"strings"
)

// Environ returns the environment from which ReadEmbedded reads e, as "NAME=value".
// It contains the secrets in plain text and is meant for starting a process.
func (e Embedded) Environ() []string {
	return append(e.environ(), "OCELOT_DATA="+e.Data, socketsVariable+"="+e.Sockets)
}

func (f Function) environ() []string {
	environ := f.Rates.environ()
	if f.MaxBacklog > 0 {
		environ = append(environ, "OCELOT_MAX_BACKLOG="+strconv.Itoa(f.MaxBacklog))
	}
	if f.TraceDaemon != "" {
		environ = append(environ, "AWS_XRAY_DAEMON_ADDRESS="+f.TraceDaemon)
	}
	return append(environ,
		keyBackupVariable+"="+strconv.Itoa(int(f.KeyBackupDays)),
		usageKeyStandard+"="+f.UsageKeys.Standard,
		usageKeyPriority+"="+f.UsageKeys.Priority,
		"OCELOT_CURSOR_KEY="+string(f.CursorKey),
		"OCELOT_MASTER_KEY="+f.MasterKey,
		exportsVariable+"="+f.ExportsBucket,
		tombstonesVariable+"="+f.TombstonesBucket,
		archiveVariable+"="+f.ArchiveBucket,
		"OCELOT_LOG_LEVEL="+strings.ToLower(f.LogLevel.String()),
		"OCELOT_STREAM_URL="+f.StreamURL,
		"OCELOT_ORIGINS="+strings.Join(f.Origins, ","),
		"OCELOT_JWT_SECRET="+string(f.Auth.JWTSecret),
		"OIDC_JWKS_URL="+f.Auth.JWKSURL,
		"OIDC_ISSUER="+f.Auth.Issuer,
		"OIDC_AUDIENCE="+f.Auth.Audience,
	)
}

func (r Rates) environ() []string {
	var environ []string
	for variable, rate := range map[string]Rate{rateStandard: r.Standard, ratePriority: r.Priority, rateCredential: r.Credential} {
		environ = append(environ, variable+"="+strconv.Itoa(rate.PerSecond))
		if rate.PerSecond > 0 {
			environ = append(environ, variable+burstSuffix+"="+strconv.Itoa(rate.Burst))
		}
	}
	return environ
}

// Environ returns the environment from which ReadCloud reads c, as "NAME=value".
// It contains the secrets in plain text and is meant for starting a process.
func (c Cloud) Environ() []string {
	environ := append(c.environ(),
		"MONGODB_URI="+string(c.MongoURI),
		"MONGODB_DATABASE="+c.MongoDatabase,
		"OCELOT_MONGO_INDEXES="+c.MongoIndexes,
		"OCELOT_MONGO_READ_PREFERENCE="+c.MongoReadPreference,
		"OPENSEARCH_URL="+string(c.OpenSearchURL),
		"OPENSEARCH_AUTH="+map[bool]string{false: "none", true: "aws"}[c.OpenSearchSigned],
		"OPENSEARCH_PREFIX="+c.OpenSearchPrefix,
		"OPENSEARCH_REPLICAS="+strconv.Itoa(c.OpenSearchReplicas),
		"OCELOT_SEARCH_SEPARATE_TENANTS="+strconv.Itoa(c.SearchSeparateTenants),
		"OCELOT_SEARCH_POOLS="+strconv.Itoa(c.SearchPools),
		"OCELOT_QUEUE_PREFIX="+c.QueuePrefix,
		"AWS_REGION="+c.AWS.Region,
		"AWS_ACCESS_KEY_ID="+c.AWS.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+string(c.AWS.SecretAccessKey),
		"AWS_SESSION_TOKEN="+string(c.AWS.SessionToken),
	)
	for id, address := range c.AWS.Endpoints {
		name := "AWS_ENDPOINT_URL"
		if id != "" {
			name += "_" + strings.ReplaceAll(strings.ToUpper(id), " ", "_")
		}
		environ = append(environ, name+"="+address)
	}
	return environ
}
