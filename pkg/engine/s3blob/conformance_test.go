package s3blob_test

import (
	"bytes"
	"context"
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
	bucket := newBucket(t, client)
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

// newBucket creates a bucket of a new name, which is gone after the test.
func newBucket(t *testing.T, client client) string {
	t.Helper()
	bucket := "ocelot-test-" + uuid.NewString()
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraint(client.Options().Region),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeBucket(t, client, bucket) })
	return bucket
}

// removeBucket removes a bucket with all that is in it, and fails the test where
// parts of unfinished uploads are.
func removeBucket(t *testing.T, client client, bucket string) {
	t.Helper()
	ctx := context.Background() // the test's own has ended
	uploads, err := client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Error(err)
	} else if len(uploads.Uploads) > 0 {
		t.Errorf("%d uploads are left unfinished, want 0", len(uploads.Uploads))
	}
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var objects []types.ObjectIdentifier
		for _, object := range page.Contents {
			objects = append(objects, types.ObjectIdentifier{Key: object.Key})
		}
		if len(objects) == 0 {
			break
		}
		deleted, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: objects}})
		if err != nil {
			t.Fatal(err)
		} else if len(deleted.Errors) > 0 {
			t.Fatalf("got errors %v from the deletion, want none", deleted.Errors)
		}
	}
	if _, err := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
		t.Error(err)
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
	blobs := client.blobs(newBucket(t, client))
	conformance.Presigner(t, func(*testing.T) conformance.PresignerUnderTest {
		return conformance.PresignerUnderTest{Blobs: blobs, Presigner: blobs}
	})
}

func TestConformanceOfUploads(t *testing.T) {
	client := newClient(t)
	blobs := client.blobs(newBucket(t, client))
	conformance.Uploads(t, func(*testing.T) conformance.UploadsUnderTest {
		return conformance.UploadsUnderTest{Uploads: blobs, Blobs: blobs, Presigner: blobs, Purger: blobs, Files: blobs}
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
	bucket := newBucket(t, client)
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
