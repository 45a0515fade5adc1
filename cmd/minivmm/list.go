package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

func newListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the running machines",
		Long:  "List this user's running machines: name, process, virtual CPUs, memory, and how long it has been running.",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := control.Find()
			if !asJSON {
				return listTable(cmd.OutOrStdout(), found, time.Now())
			}
			machines := []account.Machine{}
			for _, f := range found {
				if f.Err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "minivmm: %s: %v\n", f.Name, f.Err)
					continue
				}
				machines = append(machines, f.About)
			}
			return printJSON(cmd.OutOrStdout(), machines)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listTable(w io.Writer, found []control.Found, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPROCESS\tVCPUS\tMEMORY\tUP")
	for _, f := range found {
		if f.Err != nil {
			fmt.Fprintf(t, "%s\t-\t-\t-\t%v\n", f.Name, f.Err)
			continue
		}
		m := f.About
		fmt.Fprintf(t, "%s\t%d\t%d\t%v\t%v\n", f.Name, m.PID, m.VCPUs, config.Size(m.Memory), now.Sub(m.Started).Round(time.Second))
	}
	return t.Flush()
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
