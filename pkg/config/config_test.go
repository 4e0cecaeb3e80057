package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const secret = "a secret of exactly 32 bytes ..."

// setenv sets these variables and clears all others that the package reads.
func setenv(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range []string{
		"OCELOT_DATA", "OCELOT_CURSOR_KEY", "OCELOT_MASTER_KEY", "OCELOT_EXPORTS_BUCKET", "OCELOT_TOMBSTONES_BUCKET", "OCELOT_ARCHIVE_BUCKET", "OCELOT_LOG_LEVEL", "OCELOT_JWT_SECRET", "OIDC_JWKS_URL", "OIDC_ISSUER", "OIDC_AUDIENCE",
		"MONGODB_URI", "MONGODB_DATABASE", "OCELOT_MONGO_INDEXES", "OCELOT_MONGO_READ_PREFERENCE", "OPENSEARCH_URL", "OPENSEARCH_AUTH", "OPENSEARCH_PREFIX", "OPENSEARCH_REPLICAS", "OCELOT_SEARCH_SEPARATE_TENANTS", "OCELOT_SEARCH_POOLS", "OCELOT_QUEUE_PREFIX",
		"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"OCELOT_RATE_STANDARD", "OCELOT_RATE_STANDARD_BURST", "OCELOT_RATE_PRIORITY", "OCELOT_RATE_PRIORITY_BURST", "OCELOT_RATE_CREDENTIAL", "OCELOT_RATE_CREDENTIAL_BURST", "OCELOT_MAX_BACKLOG", "OCELOT_KEY_BACKUP_DAYS", "OCELOT_USAGE_KEY_STANDARD", "OCELOT_USAGE_KEY_PRIORITY",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "OCELOT_STREAM_URL", "OCELOT_ORIGINS",
	} {
		t.Setenv(name, variables[name])
	}
}

func TestReadEmbedded(t *testing.T) {
	setenv(t, map[string]string{"OCELOT_DATA": "/data", "OCELOT_CURSOR_KEY": secret, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "http://g"})
	minimal := config.Embedded{Data: "/data", Sockets: "http://g", Function: config.Function{MaxBacklog: 40_000, KeyBackupDays: 35, CursorKey: config.Secret(secret), LogLevel: slog.LevelInfo}}
	if got, err := config.ReadEmbedded(manifest.Dependencies()...); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, minimal) {
		t.Errorf("got %+v, want %+v", got, minimal)
	} else if got.Auth.Enabled() {
		t.Error("Auth.Enabled() is true, want false")
	}
	setenv(t, map[string]string{
		"OCELOT_DATA": "/data", "OCELOT_CURSOR_KEY": secret, "OCELOT_LOG_LEVEL": "Debug",
		"OIDC_JWKS_URL": "https://issuer.test/keys", "OIDC_ISSUER": "https://issuer.test", "OIDC_AUDIENCE": "ocelot",
		"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "https://g/live", "OCELOT_STREAM_URL": "wss://g/live", "OCELOT_ORIGINS": "https://a.test,http://localhost:3000",
	})
	full := config.Embedded{Data: "/data", Sockets: "https://g/live", Function: config.Function{
		StreamURL: "wss://g/live", Origins: []string{"https://a.test", "http://localhost:3000"}, MaxBacklog: 40_000, KeyBackupDays: 35,
		CursorKey: config.Secret(secret), LogLevel: slog.LevelDebug,
		Auth: config.Auth{JWKSURL: "https://issuer.test/keys", Issuer: "https://issuer.test", Audience: "ocelot"},
	}}
	if got, err := config.ReadEmbedded(manifest.Dependencies()...); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, full) {
		t.Errorf("got %+v, want %+v", got, full)
	} else if !got.Auth.Enabled() {
		t.Error("Auth.Enabled() is false, want true")
	}
}

func TestReadCloud(t *testing.T) {
	required := map[string]string{"OCELOT_CURSOR_KEY": secret, "OCELOT_MASTER_KEY": "alias/ocelot", "OCELOT_EXPORTS_BUCKET": "exports", "OCELOT_TOMBSTONES_BUCKET": "tombstones", "OCELOT_ARCHIVE_BUCKET": "archive", "MONGODB_URI": "mongodb://m", "OPENSEARCH_URL": "https://o", "AWS_REGION": "eu-north-1",
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_SESSION_TOKEN": "token", "AWS_ENDPOINT_URL_SQS": "http://q",
		"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "https://g/live"}
	setenv(t, required)
	want := config.Cloud{
		Function: config.Function{CursorKey: config.Secret(secret), MasterKey: "alias/ocelot", ExportsBucket: "exports", TombstonesBucket: "tombstones", ArchiveBucket: "archive", LogLevel: slog.LevelInfo, MaxBacklog: 50_000_000, KeyBackupDays: 35, Rates: config.Rates{
			Standard: config.Rate{PerSecond: 1000, Burst: 10_000}, Priority: config.Rate{PerSecond: 5000, Burst: 50_000},
			Credential: config.Rate{PerSecond: 2500, Burst: 25_000},
		}},
		Engines: config.Engines{MongoURI: config.Secret("mongodb://m"), MongoDatabase: "ocelot", OpenSearchURL: config.Secret("https://o"),
			MongoIndexes: "full", MongoReadPreference: "primary",
			OpenSearchPrefix: "ocelot", OpenSearchReplicas: 1, SearchSeparateTenants: 200, SearchPools: 16, QueuePrefix: "ocelot",
			AWS: config.AWS{
				Region: "eu-north-1", AccessKeyID: "id", SecretAccessKey: config.Secret("key"), SessionToken: config.Secret("token"),
				Endpoints: map[string]string{"SQS": "http://q", config.SocketsService: "https://g/live"},
			}},
	}
	if got, err := config.ReadCloud(manifest.Dependencies()...); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("ReadCloud = %+v, want %+v", got, want)
	}
	want.UsageKeys = config.UsageKeys{Standard: "a-key-of-standard-tenants", Priority: "a-key-of-priority-tenants"}
	required["OCELOT_USAGE_KEY_STANDARD"], required["OCELOT_USAGE_KEY_PRIORITY"] = want.UsageKeys.Standard, want.UsageKeys.Priority
	required["OPENSEARCH_AUTH"], required["OPENSEARCH_REPLICAS"], required["MONGODB_DATABASE"], required["OCELOT_QUEUE_PREFIX"] = "aws", "0", "audit", "prod"
	required["OCELOT_MONGO_INDEXES"], required["OCELOT_MONGO_READ_PREFERENCE"] = "lean", "secondaryPreferred"
	setenv(t, required)
	required["OCELOT_SEARCH_SEPARATE_TENANTS"], required["OCELOT_SEARCH_POOLS"] = "0", "100"
	setenv(t, required)
	want.SearchSeparateTenants, want.SearchPools = 0, 100
	want.MongoIndexes, want.MongoReadPreference = "lean", "secondaryPreferred"
	want.OpenSearchSigned, want.OpenSearchReplicas, want.MongoDatabase, want.QueuePrefix = true, 0, "audit", "prod"
	if got, err := config.ReadCloud(manifest.Dependencies()...); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("ReadCloud = %+v, want %+v", got, want)
	}
	again := map[string]string{}
	for _, line := range want.Environ() {
		name, value, _ := strings.Cut(line, "=")
		again[name] = value
	}
	setenv(t, again)
	if got, err := config.ReadCloud(manifest.Dependencies()...); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("ReadCloud of its Environ = %+v, want %+v", got, want)
	}
}

func TestFunctionsRequireOnlyTheVariablesOfTheirDependencies(t *testing.T) {
	setenv(t, nil)
	if _, err := config.ReadCloud(); err != nil {
		t.Errorf("ReadCloud without dependencies: %v", err)
	}
	if _, err := config.ReadEmbedded(); err != nil {
		t.Errorf("ReadEmbedded without dependencies: %v", err)
	}
	for _, d := range manifest.Dependencies() {
		values := map[string]string{"AWS_REGION": "eu-north-1", "OCELOT_DATA": "/data"}
		for _, name := range config.Variables(d) {
			values[name] = map[string]string{
				"MONGODB_URI": "mongodb://m", "OPENSEARCH_URL": "https://o", "OCELOT_CURSOR_KEY": secret, "OCELOT_MASTER_KEY": "alias/ocelot", "OCELOT_EXPORTS_BUCKET": "exports", "OCELOT_TOMBSTONES_BUCKET": "tombstones", "OCELOT_ARCHIVE_BUCKET": "archive",
				"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "https://g/live",
			}[name]
		}
		for name, value := range values {
			if value == "" { // it has a default
				delete(values, name)
			}
		}
		if d != manifest.DependencySearch {
			values["OPENSEARCH_AUTH"], values["OPENSEARCH_REPLICAS"] = "none", "1"
		}
		if d != manifest.DependencyRecords {
			values["OCELOT_MONGO_INDEXES"], values["OCELOT_MONGO_READ_PREFERENCE"] = "full", "primary"
		}
		setenv(t, values)
		if _, err := config.ReadCloud(d); err != nil {
			t.Errorf("ReadCloud(%s) with its variables: %v", d, err)
		}
		if _, err := config.ReadEmbedded(d); err != nil {
			t.Errorf("ReadEmbedded(%s) with its variables: %v", d, err)
		}
	}
}

func TestReadDev(t *testing.T) {
	setenv(t, nil)
	if got, err := config.ReadDev(); err != nil {
		t.Error(err)
	} else if got.Auth.Enabled() {
		t.Error("Auth.Enabled() is true, want false")
	} else if got.LogLevel != slog.LevelWarn {
		t.Errorf("got log level %v, want %v", got.LogLevel, slog.LevelWarn)
	}
	setenv(t, map[string]string{"OCELOT_LOG_LEVEL": "error", "OCELOT_JWT_SECRET": secret})
	if got, err := config.ReadDev(); err != nil {
		t.Error(err)
	} else if !got.Auth.Enabled() {
		t.Error("Auth.Enabled() is false, want true")
	} else if got.LogLevel != slog.LevelError {
		t.Errorf("got log level %v, want %v", got.LogLevel, slog.LevelError)
	}
}

// TestTombstonesNeedABucketOfTheirOwn: files of exports are removed after some days.
func TestTombstonesNeedABucketOfTheirOwn(t *testing.T) {
	setenv(t, map[string]string{"AWS_REGION": "eu-north-1", "OCELOT_EXPORTS_BUCKET": "files", "OCELOT_TOMBSTONES_BUCKET": "files"})
	_, devErr := config.ReadDev()
	_, cloudErr := config.ReadCloud(manifest.DependencyExports, manifest.DependencyTombstones)
	for reader, err := range map[string]error{"ReadDev": devErr, "ReadCloud": cloudErr} {
		if err == nil || !strings.Contains(err.Error(), "OCELOT_TOMBSTONES_BUCKET must differ") {
			t.Errorf("%s: got error %v, want one that asks for another bucket", reader, err)
		}
	}
}

// TestTheArchiveNeedsABucketOfItsOwn: the deletion of a tenant removes its whole archive.
func TestTheArchiveNeedsABucketOfItsOwn(t *testing.T) {
	for _, other := range []string{"OCELOT_EXPORTS_BUCKET", "OCELOT_TOMBSTONES_BUCKET"} {
		setenv(t, map[string]string{"AWS_REGION": "eu-north-1", other: "files", "OCELOT_ARCHIVE_BUCKET": "files"})
		_, err := config.ReadDev()
		if want := "OCELOT_ARCHIVE_BUCKET must differ from " + other; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
		t.Setenv(other, "")
	}
}

// TestTokensOfAProviderNeedMore: a JWKS URL alone would accept tokens for other services.
func TestTokensOfAProviderNeedMore(t *testing.T) {
	whole := map[string]string{
		"OCELOT_DATA": "/data", "OCELOT_CURSOR_KEY": secret, "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "https://g/live",
		"OIDC_JWKS_URL": "https://issuer.test/keys", "OIDC_ISSUER": "https://issuer.test", "OIDC_AUDIENCE": "ocelot",
	}
	for variable, value := range map[string]string{"OIDC_ISSUER": "", "OIDC_AUDIENCE": "", "OCELOT_JWT_SECRET": secret} {
		environ := maps.Clone(whole)
		environ[variable] = value
		setenv(t, environ)
		if _, err := config.ReadEmbedded(manifest.Dependencies()...); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s=%q: got error %v, want one that names the variable", variable, value, err)
		}
	}
}

func TestFaults(t *testing.T) {
	tests := []struct{ variable, value, want string }{
		{"OCELOT_DATA", "", "required"},
		{"OCELOT_CURSOR_KEY", "", "required"},
		{"OCELOT_CURSOR_KEY", "hunter2-of-only-31-bytes-in-all", "32 bytes"},
		{"OCELOT_JWT_SECRET", "hunter2", "32 bytes"},
		{"OCELOT_LOG_LEVEL", "hunter2", "debug, info, warn, error"},
		{"OIDC_JWKS_URL", "hunter2", "absolute"},
		{"OIDC_JWKS_URL", "https:///hunter2", "absolute"},
		{"OIDC_JWKS_URL", "ftp://hunter2", "absolute"},
		{"OIDC_JWKS_URL", "http://[hunter2", "absolute"},
		{"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "", "required"},
		{"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "wss://hunter2", "absolute"},
		{"OCELOT_STREAM_URL", "https://hunter2", "absolute"},
		{"OCELOT_ORIGINS", "https://a.test,hunter2", "origins"},
		{"OCELOT_ORIGINS", "https://hunter2/", "origins"},
		{"OCELOT_ORIGINS", "*", "origins"},
		{"MONGODB_URI", "", "required"},
		{"OPENSEARCH_URL", "", "required"},
		{"AWS_REGION", "", "required"},
		{"OPENSEARCH_AUTH", "hunter2", "none, aws"},
		{"OPENSEARCH_REPLICAS", "hunter2", "from 0 to 5"},
		{"OPENSEARCH_REPLICAS", "6", "from 0 to 5"},
		{"OCELOT_SEARCH_SEPARATE_TENANTS", "10001", "from 0 to 10000"},
		{"OCELOT_SEARCH_POOLS", "0", "from 1 to 100"},
	}
	for _, tt := range tests {
		t.Run(tt.variable+" "+tt.want, func(t *testing.T) {
			variables := map[string]string{"OCELOT_DATA": "/data", "OCELOT_CURSOR_KEY": secret, "MONGODB_URI": "m", "OPENSEARCH_URL": "o", "AWS_REGION": "r",
				"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "http://g"}
			variables[tt.variable] = tt.value
			setenv(t, variables)
			_, embedded := config.ReadEmbedded(manifest.Dependencies()...)
			_, cloud := config.ReadCloud(manifest.Dependencies()...)
			err := errors.Join(embedded, cloud)
			if err == nil {
				t.Fatal("got no error, want one")
			}
			for _, part := range []string{tt.variable, tt.want} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got error %v, want one with %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got error %v, want it without the value", err)
			}
		})
	}
	setenv(t, map[string]string{"OCELOT_CURSOR_KEY": "short", "OCELOT_LOG_LEVEL": "loud"})
	_, err := config.ReadEmbedded(manifest.Dependencies()...)
	for _, variable := range []string{"OCELOT_DATA", "OCELOT_CURSOR_KEY", "OCELOT_LOG_LEVEL"} {
		if err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("got error %v, want one with %q", err, variable)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	f := config.Function{CursorKey: config.Secret(secret), Auth: config.Auth{JWTSecret: config.Secret(secret)}}
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		fmt.Fprintf(&printed, verb, f)
		fmt.Fprintf(&printed, verb, f.CursorKey)
	}
	slog.New(slog.NewTextHandler(&printed, nil)).Info("config", "key", f.CursorKey, "all", f)
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	printed.Write(text)
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), "97 32 115", "YSBzZWNyZXQ"} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret came out as %q, want it hidden", form)
		}
	}
}

func TestRates(t *testing.T) {
	for name, c := range map[string]struct {
		variables map[string]string
		want      config.Rate // of the standard tier; the zero Rate with a fault
		fault     string
	}{
		"unset":                     {nil, config.Rate{}, ""},
		"a rate":                    {map[string]string{"OCELOT_RATE_STANDARD": "50"}, config.Rate{PerSecond: 50, Burst: 500}, ""},
		"a rate and a burst":        {map[string]string{"OCELOT_RATE_STANDARD": "50", "OCELOT_RATE_STANDARD_BURST": "7"}, config.Rate{PerSecond: 50, Burst: 7}, ""},
		"no number":                 {map[string]string{"OCELOT_RATE_STANDARD": "many"}, config.Rate{}, "OCELOT_RATE_STANDARD must be"},
		"too many":                  {map[string]string{"OCELOT_RATE_STANDARD": "1000001"}, config.Rate{}, "OCELOT_RATE_STANDARD must be"},
		"no burst":                  {map[string]string{"OCELOT_RATE_STANDARD": "1", "OCELOT_RATE_STANDARD_BURST": "0"}, config.Rate{}, "OCELOT_RATE_STANDARD_BURST must be"},
		"more than an hour of rate": {map[string]string{"OCELOT_RATE_STANDARD": "1", "OCELOT_RATE_STANDARD_BURST": "3601"}, config.Rate{}, "OCELOT_RATE_STANDARD_BURST must be"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, c.variables)
			got, err := config.ReadDev()
			switch {
			case c.fault == "" && err != nil:
				t.Errorf("got the error %v, want none", err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("got the error %v, want one with %q", err, c.fault)
			case c.fault == "" && got.Rates.Standard != c.want:
				t.Errorf("got %+v, want %+v", got.Rates.Standard, c.want)
			}
		})
	}
}
