package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
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
		Long:  "List this user's running machines: name, process ID, virtual CPUs, memory and uptime.",
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
	var t columns
	t.row("NAME", "PROCESS", "VCPUS", "MEMORY", "UP")
	for _, f := range found {
		if f.Err != nil {
			t.row(f.Name, "-", "-", "-", f.Err.Error())
			continue
		}
		m := f.About
		t.row(f.Name, strconv.Itoa(m.PID), strconv.Itoa(m.VCPUs), config.Size(m.Memory).String(), now.Sub(m.Started).Round(time.Second).String())
	}
	_, err := t.WriteTo(w)
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
