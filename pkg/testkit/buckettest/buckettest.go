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
	return create(t, client, func(uploads []types.MultipartUpload) {
		if len(uploads) > 0 {
			t.Errorf("%d uploads are left unfinished, want 0", len(uploads))
		}
	})
}

// NewForKilled is New for workers that are killed: they may leave uploads unfinished.
func NewForKilled(t testing.TB, client *s3.Client) (bucket string) {
	t.Helper()
	bucket = create(t, client, func(uploads []types.MultipartUpload) {
		for i := range uploads {
			input := &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: uploads[i].Key, UploadId: uploads[i].UploadId}
			if _, err := client.AbortMultipartUpload(context.Background(), input); err != nil { // the test's own context has ended
				t.Error(err)
			}
		}
	})
	return bucket
}

// create creates a bucket. After the test, left gets its unfinished uploads.
func create(t testing.TB, client *s3.Client, left func(uploads []types.MultipartUpload)) string {
	t.Helper()
	bucket := "ocelot-test-" + strings.ToLower(rand.Text())
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraint(client.Options().Region),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, client, bucket, left) })
	return bucket
}

func remove(t testing.TB, client *s3.Client, bucket string, left func(uploads []types.MultipartUpload)) {
	t.Helper()
	ctx := context.Background() // the test's own has ended
	uploads, err := client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Error(err)
	} else {
		left(uploads.Uploads)
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
