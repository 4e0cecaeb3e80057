package secrets

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

func TestAddressOfEachPartition(t *testing.T) {
	r := New(aws.Config{}, time.Now)
	for partition, want := range map[string]string{
		"aws":        "https://secretsmanager.r-1.amazonaws.com",
		"aws-us-gov": "https://secretsmanager.r-1.amazonaws.com",
		"aws-cn":     "https://secretsmanager.r-1.amazonaws.com.cn",
		"aws-eusc":   "https://secretsmanager.r-1.amazonaws.eu",
		"aws-iso":    "https://secretsmanager.r-1.c2s.ic.gov",
	} {
		got, err := r.address(t.Context(), arn.ARN{Partition: partition}, "r-1")
		if err != nil {
			t.Errorf("partition %s: %v", partition, err)
		}
		if got != want {
			t.Errorf("the address in partition %s is %s, want %s", partition, got, want)
		}
	}
}

func TestAnUnknownPartitionIsAnError(t *testing.T) {
	_, err := New(aws.Config{}, time.Now).address(t.Context(), arn.ARN{Partition: "aws-moon"}, "r-1")
	if err == nil {
		t.Fatal("got no error, want one")
	}
	for _, want := range []string{"aws-moon", "AWS_ENDPOINT_URL_SECRETS_MANAGER"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %q, want %q in it", err, want)
		}
	}
}

func TestAConfiguredAddressIsUsedInEveryPartition(t *testing.T) {
	want := "http://127.0.0.1:4566"
	got, err := New(aws.Config{BaseEndpoint: &want}, time.Now).address(t.Context(), arn.ARN{Partition: "aws-moon"}, "r-1")
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the address is %s, want %s", got, want)
	}
}
