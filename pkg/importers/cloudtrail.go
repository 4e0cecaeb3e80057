package importers

import (
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func isCloudTrail(r fields) bool {
	return r.has("eventTime", "eventName", "eventSource") || isInsight(r)
}

// isInsight reports whether a record is of CloudTrail Insights: unusual activity that AWS noticed.
func isInsight(r fields) bool { return r.has("eventTime", "insightDetails") }

// isDigest reports whether an object is the digest of CloudTrail's log file validation. It lists
// files and has no event.
func isDigest(r fields) bool { return r.has("digestStartTime", "digestEndTime") }

// cloudTrailEvent reads a record of AWS CloudTrail:
//
//	timestamp        eventTime
//	idempotency_key  eventID
//	action           eventName
//	user_id          onBehalfOf.userId of an IdentityCenterUser, else the first of userIdentity's arn, userName, principalId, invokedBy, type, accountId
//	session_id       userIdentity.accessKeyId, which is different for each session of temporary credentials
//	request_id       requestID
//	resource_type    the type of the first of resources, else the service ("s3" of s3.amazonaws.com)
//	resource_id      the ARN of the first of resources, else the best name among requestParameters
//	ip_address       sourceIPAddress if it is an address
//	user_agent       userAgent
//	severity         ERROR if the record has an errorCode or is a failed sign-in, else INFO
func cloudTrailEvent(r fields) event {
	if isInsight(r) {
		return insightEvent(r)
	}
	user := r.object("userIdentity")
	actor := cloudTrailActor(user)
	e := event{
		time: r["eventTime"], key: r.text("eventID"), action: r.text("eventName"), user: actor,
		session: user.text("accessKeyId"), request: r.text("requestID"),
		resourceType: cloudTrailResourceType(r), resourceID: cloudTrailResourceID(r),
		address: r.text("sourceIPAddress"), agent: r.text("userAgent"),
		message: sentence(r.text("eventName"), awsService(r), actor, r.text("errorCode"), r.text("errorMessage")),
	}
	if r.text("errorCode") != "" || isFailedSignIn(r) {
		e.severity = audit.SeverityError
	}
	return e
}

// cloudTrailActor returns who acted. A user of IAM Identity Center has no name in the record.
func cloudTrailActor(user fields) string {
	if user.text("type") == "IdentityCenterUser" {
		if id := user.object("onBehalfOf").text("userId"); id != "" {
			return id
		}
	}
	return user.firstOf("arn", "userName", "principalId", "invokedBy", "type", "accountId")
}

// isFailedSignIn reports whether a record is a sign-in to the console that failed. It has no errorCode.
func isFailedSignIn(r fields) bool {
	return r.object("responseElements").text("ConsoleLogin") == "Failure"
}

// insightEvent reads a record of CloudTrail Insights. It is no call of somebody, so its action is not
// the call's name.
//
//	timestamp        eventTime
//	idempotency_key  eventID
//	action           insightDetails.insightType, such as ApiCallRateInsight
//	user_id          cloudtrail.amazonaws.com
//	session_id       sharedEventID, which the start and the end have in common
//	resource_type    the service of insightDetails.eventSource
//	resource_id      insightDetails.eventName, the call that is unusual
//	severity         WARNING
//	message          with insightDetails.state: Start or End
func insightEvent(r fields) event {
	details := r.object("insightDetails")
	kind, call, service := details.text("insightType"), details.text("eventName"), awsService(details)
	return event{
		time: r["eventTime"], key: r.text("eventID"), action: kind, user: "cloudtrail.amazonaws.com", session: r.text("sharedEventID"),
		resourceType: service, resourceID: call, severity: audit.SeverityWarning,
		message: strings.TrimSpace(details.text("state") + " of " + kind + " about " + call + " of " + service),
	}
}

// awsService returns "s3" for the event source "s3.amazonaws.com".
func awsService(r fields) string {
	name, _, _ := strings.Cut(r.text("eventSource"), ".")
	if name == "" {
		return "aws"
	}
	return name
}

func cloudTrailResourceType(r fields) string {
	if kind := r.first("resources").object("").text("type"); kind != "" {
		return kind
	}
	return awsService(r)
}

// resourceNames are request parameters that identify a resource, the most specific first.
var resourceNames = []string{
	"resourceArn", "resourceARN", "arn", "aRN", "bucketName", "instanceId", "functionName", "secretId", "keyId", "roleArn", "policyArn",
	"roleName", "userName", "groupName", "policyName", "instanceProfileName", "trailName", "tableName", "queueUrl", "topicArn",
	"logGroupName", "stackName", "clusterName", "dBInstanceIdentifier", "groupId", "vpcId", "subnetId", "volumeId",
	"snapshotId", "imageId", "accessKeyId", "resourceId", "name", "id",
}

func cloudTrailResourceID(r fields) string {
	if arn := r.first("resources").object("").firstOf("ARN", "arn"); arn != "" {
		return arn
	}
	parameters := r.object("requestParameters")
	if bucket, object := parameters.text("bucketName"), parameters.text("key"); bucket != "" && object != "" {
		return bucket + "/" + object
	}
	if name := parameters.firstOf(resourceNames...); name != "" {
		return name
	}
	return likelyName(parameters)
}

// likelyName returns the first parameter, in the order of their names, whose name ends in ARN,
// id or name.
func likelyName(parameters fields) string {
	for _, suffix := range []string{"arn", "id", "identifier", "name"} {
		var found []string
		for name := range parameters {
			if strings.HasSuffix(strings.ToLower(name), suffix) && parameters.text(name) != "" {
				found = append(found, name)
			}
		}
		if len(found) > 0 {
			return parameters.text(slices.Min(found))
		}
	}
	return ""
}
