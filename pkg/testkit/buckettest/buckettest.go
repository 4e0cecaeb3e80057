// Package buckettest creates buckets for tests.
package buckettest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// New creates a bucket of a new name. After the test, the bucket and all that is in it are gone. The
// test fails if unfinished uploads are left in it.
func New(t testing.TB, client *s3.Client) string {
	t.Helper()
	bucket := "ocelot-test-" + strings.ToLower(rand.Text())
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraint(client.Options().Region),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, client, bucket) })
	return bucket
}

func remove(t testing.TB, client *s3.Client, bucket string) {
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
