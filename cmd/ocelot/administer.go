package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// tenantCmd administers tenants. A platform operator may do so.
type tenantCmd struct {
	List   tenantListCmd   `cmd:"" help:"List the tenants that the token may access, one a line."`
	Get    tenantGetCmd    `cmd:"" help:"Print a tenant and its settings."`
	Create tenantCreateCmd `cmd:"" help:"Create a tenant."`
	Update tenantUpdateCmd `cmd:"" help:"Change a tenant's name, settings or status."`
	Delete tenantDeleteCmd `cmd:"" help:"Delete a tenant and everything it has."`
}

// apiKeyCmd administers the API keys of the tenant.
type apiKeyCmd struct {
	List   keyListCmd   `cmd:"" help:"List the keys of the tenant, one a line."`
	Create keyCreateCmd `cmd:"" help:"Create a key. Its secret is shown this once."`
	Revoke keyRevokeCmd `cmd:"" help:"Revoke a key."`
}

// quarantineCmd administers the entries that a step refused.
type quarantineCmd struct {
	List  quarantineListCmd  `cmd:"" help:"List the entries in quarantine with their reasons, one a line."`
	Retry quarantineRetryCmd `cmd:"" help:"Send an entry through its step again."`
	Drop  quarantineDropCmd  `cmd:"" help:"Delete an entry in quarantine."`
}

// jobCmd administers the tenant's long-running jobs.
type jobCmd struct {
	List   jobListCmd   `cmd:"" help:"List the jobs, one a line."`
	Get    jobGetCmd    `cmd:"" help:"Print a job."`
	Cancel jobCancelCmd `cmd:"" help:"Cancel a job."`
}

// openTenant returns a client for requests whose path names the tenant.
func (f *serviceFlags) openTenant() (*client.Client, error) {
	if err := f.needTenant(); err != nil {
		return nil, err
	}
	return f.openLog()
}

// needTenant returns an error if there is no tenant, which an API key knows and a path must name.
func (f *serviceFlags) needTenant() error {
	if f.Tenant == "" {
		return &usageError{errNoTenant}
	}
	return nil
}

// openLog returns a client for requests of the tenant that an API key need not name.
func (f *serviceFlags) openLog() (*client.Client, error) {
	service, err := f.connect()
	if err != nil {
		return nil, err
	}
	return service, f.reach()
}

// printAll prints the items of all pages of a list, one a line.
func printAll(ctx context.Context, con *console, c *client.Client, path string, params url.Values) error {
	out := bufio.NewWriter(con.out)
	params.Set("limit", strconv.Itoa(audit.MaxPageLimit))
	for {
		text, err := c.Read(ctx, path, params)
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		var page client.Page
		if err := json.Unmarshal(text, &page); err != nil {
			return fmt.Errorf("the service's list is not as it should be: %w", err)
		}
		if err := (&linePrinter{out}).page(page.Items); err != nil {
			return err
		}
		if page.Next == nil {
			return out.Flush()
		}
		params.Set("cursor", *page.Next)
	}
}

// printAnswer prints what a request answered. An answer without a body prints nothing.
func printAnswer(con *console, answer json.RawMessage, err error) error {
	if err != nil || len(answer) == 0 {
		return err
	}
	_, err = fmt.Fprintf(con.out, "%s\n", strings.TrimSpace(string(answer)))
	return err
}

func tenantPath(id string) string { return "tenants/" + url.PathEscape(id) }

type tenantListCmd struct{ credentialFlags }

// Run prints the tenants.
func (c *tenantListCmd) Run(ctx context.Context, con *console) error {
	service, err := c.open("")
	if err != nil {
		return err
	}
	return printAll(ctx, con, service, "tenants", url.Values{})
}

type tenantGetCmd struct {
	credentialFlags
	ID string `arg:"" help:"Id of the tenant."`
}

// Run prints the tenant.
func (c *tenantGetCmd) Run(ctx context.Context, con *console) error {
	service, err := c.open(c.ID)
	if err != nil {
		return err
	}
	answer, err := service.Read(ctx, tenantPath(c.ID), nil)
	return printAnswer(con, answer, err)
}

// settingFlag has settings of a tenant as name=value.
type settingFlag struct {
	Set []string `sep:"none" placeholder:"NAME=VALUE" help:"A setting, such as retention_days=365 or log_levels=[\"ERROR\"]; repeatable. The value is JSON, or text."`
}

// settings returns them as the API takes them, nil if there are none.
func (f *settingFlag) settings() (map[string]any, error) {
	if len(f.Set) == 0 {
		return nil, nil
	}
	settings := map[string]any{}
	for _, setting := range f.Set {
		name, value, ok := strings.Cut(setting, "=")
		if !ok || name == "" {
			return nil, usagef("--set %s: must be NAME=VALUE", setting)
		}
		if json.Valid([]byte(value)) {
			settings[name] = json.RawMessage(value)
		} else {
			settings[name] = value
		}
	}
	return settings, nil
}

type tenantCreateCmd struct {
	credentialFlags
	settingFlag
	ID   string `arg:"" help:"Id of the tenant, which can never be changed or used again."`
	Name string `placeholder:"NAME" help:"What people call the tenant; by default its id."`
}

// Run creates the tenant and prints it.
func (c *tenantCreateCmd) Run(ctx context.Context, con *console) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	body := map[string]any{"id": c.ID, "name": cmp.Or(c.Name, c.ID)}
	if settings != nil {
		body["settings"] = settings
	}
	service, err := c.open("")
	if err != nil {
		return err
	}
	answer, err := service.Change(ctx, http.MethodPost, "tenants", nil, body)
	return printAnswer(con, answer, err)
}

type tenantUpdateCmd struct {
	credentialFlags
	settingFlag
	ID     string `arg:"" help:"Id of the tenant."`
	Name   string `placeholder:"NAME" help:"What people call the tenant."`
	Status string `enum:"active,suspended," default:"" placeholder:"STATUS" help:"active or suspended; see the chapter about tenants in docs/operations.md."`
}

// Run changes what the flags name, and prints the tenant.
func (c *tenantUpdateCmd) Run(ctx context.Context, con *console) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	body := map[string]any{}
	if settings != nil {
		body["settings"] = settings
	}
	for name, value := range map[string]string{"name": c.Name, "status": c.Status} {
		if value != "" {
			body[name] = value
		}
	}
	if len(body) == 0 {
		return usagef("nothing to change: use --name, --set or --status")
	}
	service, err := c.open(c.ID)
	if err != nil {
		return err
	}
	header := http.Header{"If-Match": {"*"}, "Content-Type": {"application/merge-patch+json"}}
	answer, err := service.Change(ctx, http.MethodPatch, tenantPath(c.ID), header, body)
	return printAnswer(con, answer, err)
}

type tenantDeleteCmd struct {
	credentialFlags
	ID          string `arg:"" help:"Id of the tenant."`
	Yes         bool   `help:"Delete it. Nothing brings it back."`
	KeepArchive bool   `help:"Leave the files of its archive where they are. Encrypted values in them can never be decrypted."`
}

// Run starts the deletion and prints its job.
func (c *tenantDeleteCmd) Run(ctx context.Context, con *console) error {
	if !c.Yes {
		return usagef("this deletes every entry of %s for ever: say so with --yes", c.ID)
	}
	service, err := c.open(c.ID)
	if err != nil {
		return err
	}
	params := url.Values{}
	if c.KeepArchive {
		params.Set("keep_archive", "true")
	}
	answer, err := service.Delete(ctx, tenantPath(c.ID), params)
	return printAnswer(con, answer, err)
}

type keyListCmd struct{ serviceFlags }

// Run prints the keys.
func (c *keyListCmd) Run(ctx context.Context, con *console) error {
	return c.listOfTenant(ctx, con, "/api-keys")
}

type keyCreateCmd struct {
	serviceFlags
	Name        string        `arg:"" help:"What people call the key."`
	Permissions []string      `required:"" placeholder:"PERMISSION" help:"What the key may do, for example logs:write."`
	Resources   []string      `placeholder:"RESOURCE" help:"Restrict every read to these, for example order or user:42."`
	Valid       *durationFlag `placeholder:"DURATION" help:"How long the key works, such as 90d; by default until it is revoked."`
}

// Run creates the key and prints it with its secret.
func (c *keyCreateCmd) Run(ctx context.Context, con *console) error {
	body := map[string]any{"name": c.Name, "permissions": c.Permissions}
	if len(c.Resources) > 0 {
		body["resources"] = c.Resources
	}
	if c.Valid != nil {
		body["expires_at"] = con.now().Add(c.Valid.Duration).UTC().Format(time.RFC3339)
	}
	service, err := c.openTenant()
	if err != nil {
		return err
	}
	answer, err := service.Change(ctx, http.MethodPost, tenantPath(c.Tenant)+"/api-keys", nil, body)
	return printAnswer(con, answer, err)
}

type keyRevokeCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the key."`
}

// Run revokes the key.
func (c *keyRevokeCmd) Run(ctx context.Context, con *console) error {
	if err := c.needTenant(); err != nil {
		return err
	}
	return c.change(ctx, con, http.MethodDelete, tenantPath(c.Tenant)+"/api-keys/"+url.PathEscape(c.ID))
}

// show prints what a path shows.
func (f *serviceFlags) show(ctx context.Context, con *console, path string) error {
	service, err := f.openLog()
	if err != nil {
		return err
	}
	answer, err := service.Read(ctx, path, nil)
	return printAnswer(con, answer, err)
}

// showOfTenant is show for a path below that of the tenant.
func (f *serviceFlags) showOfTenant(ctx context.Context, con *console, below string) error {
	if err := f.needTenant(); err != nil {
		return err
	}
	return f.show(ctx, con, tenantPath(f.Tenant)+below)
}

// listOfTenant prints a list below the path of the tenant, one item a line.
func (f *serviceFlags) listOfTenant(ctx context.Context, con *console, below string) error {
	service, err := f.openTenant()
	if err != nil {
		return err
	}
	return printAll(ctx, con, service, tenantPath(f.Tenant)+below, url.Values{})
}

// change sends a request without a body and prints its answer.
func (f *serviceFlags) change(ctx context.Context, con *console, method, path string) error {
	service, err := f.openLog()
	if err != nil {
		return err
	}
	answer, err := service.Change(ctx, method, path, nil, nil)
	return printAnswer(con, answer, err)
}

type quarantineListCmd struct{ serviceFlags }

// Run prints the entries.
func (c *quarantineListCmd) Run(ctx context.Context, con *console) error {
	service, err := c.openLog()
	if err != nil {
		return err
	}
	return printAll(ctx, con, service, "logs/quarantine", url.Values{})
}

type quarantineRetryCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the item."`
}

// Run retries the entry.
func (c *quarantineRetryCmd) Run(ctx context.Context, con *console) error {
	return c.change(ctx, con, http.MethodPost, "logs/quarantine/"+url.PathEscape(c.ID)+"/retry")
}

type quarantineDropCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the item."`
}

// Run deletes the entry.
func (c *quarantineDropCmd) Run(ctx context.Context, con *console) error {
	return c.change(ctx, con, http.MethodDelete, "logs/quarantine/"+url.PathEscape(c.ID))
}

type jobListCmd struct {
	serviceFlags
	Kind  string `placeholder:"KIND" help:"Only jobs of this kind, for example erasure."`
	State string `enum:"queued,running,succeeded,failed,cancelled," default:"" placeholder:"STATE" help:"Only jobs in this state: queued, running, succeeded, failed or cancelled."`
}

// Run prints the jobs.
func (c *jobListCmd) Run(ctx context.Context, con *console) error {
	service, err := c.openLog()
	if err != nil {
		return err
	}
	params := url.Values{}
	for name, value := range map[string]string{"kind": c.Kind, "state": c.State} {
		if value != "" {
			params.Set(name, value)
		}
	}
	return printAll(ctx, con, service, "jobs", params)
}

type jobGetCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the job."`
}

// Run prints the job.
func (c *jobGetCmd) Run(ctx context.Context, con *console) error {
	return c.show(ctx, con, "jobs/"+url.PathEscape(c.ID))
}

type jobCancelCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the job."`
}

// Run cancels the job.
func (c *jobCancelCmd) Run(ctx context.Context, con *console) error {
	return c.change(ctx, con, http.MethodDelete, "jobs/"+url.PathEscape(c.ID))
}
