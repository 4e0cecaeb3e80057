package s3blob_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/s3blob"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/testkit/buckettest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// realVariable names an S3 service from outside, which has no gaps.
const realVariable = "AWS_ENDPOINT_URL_S3"

func TestConformance(t *testing.T) {
	client := newClient(t)
	var gaps []conformance.Gap
	if os.Getenv(realVariable) == "" {
		gaps = []conformance.Gap{conformance.SegmentsAreFiles}
	}
	runConformance(t, client, gaps)
}

// TestConformanceOfKeys has an engine that keeps keys as S3 does, and is less
// strict in all else.
func TestConformanceOfKeys(t *testing.T) {
	runConformance(t, clientOf(enginetest.AWS(t)), nil)
}

func runConformance(t *testing.T, client client, gaps []conformance.Gap) {
	bucket := buckettest.New(t, client.Client)
	conformance.Blobs(t, func(*testing.T) conformance.BlobsUnderTest {
		return conformance.BlobsUnderTest{Blobs: client.blobs(bucket), Gaps: gaps, Damage: func(t *testing.T, tenant audit.TenantID, key string) {
			damage(t, client, bucket, "tenant="+string(tenant)+"/"+key)
		}}
	})
}

// newClient returns a client of a real service: what the environment names,
// with the environment's credentials, or an engine.
func newClient(t *testing.T) client {
	t.Helper()
	endpoint := enginetest.S3(t)
	if os.Getenv(realVariable) == "" {
		return clientOf(endpoint)
	}
	settings, err := config.ReadAWS()
	if err != nil {
		t.Fatal(err)
	}
	return newClientOf(awsconfig.New(settings))
}

func clientOf(endpoint string) client { return newClientOf(configOf(endpoint, enginetest.SecretKey)) }

// client is the client under test, beside that of the SDK, with which tests look at what it did.
type client struct {
	*s3.Client
	tested *s3blob.Client
}

func newClientOf(cfg aws.Config) client {
	tested, err := s3blob.NewClient(cfg)
	if err != nil {
		panic("s3blob: " + err.Error()) // the address is a test's own
	}
	return client{tested: tested, Client: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil })}
}

func (c client) blobs(bucket string) *s3blob.Blobs { return s3blob.New(c.tested, bucket) }

func configOf(endpoint, secret string) aws.Config {
	return aws.Config{
		Region: enginetest.Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.AccessKey, secret, ""),
	}
}

// damage puts an object in the place of another that differs in one byte.
func damage(t *testing.T, client client, bucket, key string) {
	t.Helper()
	got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Body.Close(); err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content), Metadata: got.Metadata})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformanceOfPresign(t *testing.T) {
	client := newClient(t)
	blobs := client.blobs(buckettest.New(t, client.Client))
	conformance.Presigner(t, func(*testing.T) conformance.PresignerUnderTest {
		return conformance.PresignerUnderTest{Blobs: blobs, Presigner: blobs}
	})
}

func TestConformanceOfUploads(t *testing.T) {
	client := newClient(t)
	blobs := client.blobs(buckettest.New(t, client.Client))
	conformance.Uploads(t, func(*testing.T) conformance.UploadsUnderTest {
		return conformance.UploadsUnderTest{
			Uploads: blobs, Blobs: blobs, Presigner: blobs, Purger: blobs, Files: blobs, CompletesAfterAbort: true,
		}
	})
}

func (c client) keepVersions(t *testing.T, bucket string) {
	t.Helper()
	_, err := c.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnErasedFileHasNoVersion: a bucket with versions keeps what was removed, but for what was erased.
func TestAnErasedFileHasNoVersion(t *testing.T) {
	client := newClient(t)
	bucket := buckettest.New(t, client.Client)
	client.keepVersions(t, bucket)
	blobs := client.blobs(bucket)
	for _, key := range []string{"revealed/1", "revealed/1", "revealed/10"} {
		if err := blobs.Put(t.Context(), "acme", key, export.ContentOf([]byte(uuid.NewString()), "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := blobs.Erase(t.Context(), "acme", "revealed/1"); err != nil {
		t.Fatal(err)
	}
	versions, err := client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	if len(versions.Versions) != 1 || *versions.Versions[0].Key != "tenant=acme/revealed/10" {
		t.Errorf("%d versions are left, want that of the other file alone", len(versions.Versions))
	}
	if n := len(versions.DeleteMarkers); n != 0 {
		t.Errorf("%d delete markers are left, want 0", n)
	}
	if err := blobs.Erase(t.Context(), "acme", "revealed/10"); err != nil {
		t.Fatal(err)
	}
}
