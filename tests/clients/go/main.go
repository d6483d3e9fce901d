// Command client asks as Grafana's Flight SQL data source does, with Arrow's Go client: client ADDRESS TOKEN [USER].
//
// It reads commands from standard input, a JSON array of texts a line, and answers each with a line of JSON:
// {"columns": [[name, type]…], "rows": [[…]…]} or {"error": text}.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

type answer map[string]any

func main() {
	client, err := flightsql.NewClient(os.Args[1], nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer client.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+os.Args[2])
	if len(os.Args) > 3 {
		// Grafana with a user and a password: the handshake answers with the header for all later calls.
		if ctx, err = client.Client.AuthenticateBasicToken(context.Background(), os.Args[3], os.Args[2]); err != nil {
			print(answer{"error": err.Error()})
			return
		}
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var parts []string
		if err := json.Unmarshal(in.Bytes(), &parts); err != nil {
			print(answer{"error": err.Error()})
			continue
		}
		said, err := run(ctx, client, parts)
		if err != nil {
			said = answer{"error": err.Error()}
		}
		print(said)
	}
}

func print(said answer) {
	line, err := json.Marshal(said)
	if err != nil {
		line, _ = json.Marshal(answer{"error": err.Error()})
	}
	fmt.Println(string(line))
}

// macros are expanded by the data source before it sends a query.
func macros(sql string, from, to time.Time) string {
	stamp := func(t time.Time) string { return "TIMESTAMP '" + t.UTC().Format("2006-01-02 15:04:05.000") + "'" }
	return strings.NewReplacer(
		"$__timeRange(received)", "received >= "+stamp(from)+" AND received <= "+stamp(to),
		"$__dateBin(received)", "date_bin(interval '60 second', received, timestamp '1970-01-01T00:00:00Z')",
		"$__timeFrom", stamp(from), "$__timeTo", stamp(to),
	).Replace(sql)
}

func run(ctx context.Context, client *flightsql.Client, parts []string) (answer, error) {
	switch parts[0] {
	case "query":
		info, err := client.Execute(ctx, macros(parts[1], time.Now().Add(-time.Hour), time.Now().Add(time.Minute)))
		return read(ctx, client, info, err)
	case "sqlInfo":
		info, err := client.GetSqlInfo(ctx, []flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName, flightsql.SqlInfoFlightSqlServerCancel})
		return read(ctx, client, info, err)
	case "catalogs":
		info, err := client.GetCatalogs(ctx)
		return read(ctx, client, info, err)
	case "schemas":
		info, err := client.GetDBSchemas(ctx, &flightsql.GetDBSchemasOpts{})
		return read(ctx, client, info, err)
	case "tableTypes":
		info, err := client.GetTableTypes(ctx)
		return read(ctx, client, info, err)
	case "types":
		info, err := client.GetXdbcTypeInfo(ctx, nil)
		return read(ctx, client, info, err)
	case "tables": // a pattern, the types, and whether with schemas
		opts := &flightsql.GetTablesOpts{TableNameFilterPattern: &parts[1], IncludeSchema: parts[3] == "schema"}
		if parts[2] != "" {
			opts.TableTypes = strings.Split(parts[2], ",")
		}
		info, err := client.GetTables(ctx, opts)
		return read(ctx, client, info, err)
	case "keys":
		table := flightsql.TableRef{Table: parts[1]}
		all := map[string]func() (*flight.FlightInfo, error){
			"primary":  func() (*flight.FlightInfo, error) { return client.GetPrimaryKeys(ctx, table) },
			"exported": func() (*flight.FlightInfo, error) { return client.GetExportedKeys(ctx, table) },
			"imported": func() (*flight.FlightInfo, error) { return client.GetImportedKeys(ctx, table) },
			"cross":    func() (*flight.FlightInfo, error) { return client.GetCrossReference(ctx, table, table) },
		}
		info, err := all[parts[2]]()
		return read(ctx, client, info, err)
	case "update":
		n, err := client.ExecuteUpdate(ctx, parts[1])
		return answer{"updated": n}, err
	case "prepared": // SQL with one text parameter, and its values
		statement, err := client.Prepare(ctx, parts[1])
		if err != nil {
			return nil, err
		}
		defer statement.Close(ctx)
		runs := []any{}
		for _, value := range parts[2:] {
			builder := array.NewStringBuilder(memory.DefaultAllocator)
			builder.Append(value)
			column := builder.NewArray()
			schema := arrow.NewSchema([]arrow.Field{{Name: "$1", Type: arrow.BinaryTypes.String}}, nil)
			statement.SetParameters(array.NewRecordBatch(schema, []arrow.Array{column}, 1))
			info, err := statement.Execute(ctx)
			said, err := read(ctx, client, info, err)
			if err != nil {
				return nil, err
			}
			runs = append(runs, said["rows"])
		}
		return answer{"rows": runs}, nil
	case "cancel": // before it is read, while it is read, and by the older action
		return cancel(ctx, client, parts[1])
	case "session":
		return session(ctx, client)
	case "actions":
		stream, err := client.Client.ListActions(ctx, &flight.Empty{})
		if err != nil {
			return nil, err
		}
		names := [][]any{}
		for action, err := stream.Recv(); err == nil; action, err = stream.Recv() {
			names = append(names, []any{action.Type})
		}
		return answer{"rows": names}, nil
	}
	return nil, fmt.Errorf("there is no command %s", parts[0])
}

func cancel(ctx context.Context, client *flightsql.Client, sql string) (answer, error) {
	said := answer{}
	for _, when := range []string{"before", "during"} {
		info, err := client.Execute(ctx, sql)
		if err != nil {
			return nil, err
		}
		var reader *flight.Reader
		if when == "during" {
			if reader, err = client.DoGet(ctx, info.Endpoint[0].Ticket); err != nil {
				return nil, err
			}
		}
		result, err := client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info})
		if err != nil {
			return nil, err
		}
		if when == "before" {
			if reader, err = client.DoGet(ctx, info.Endpoint[0].Ticket); err != nil {
				said[when] = []any{result.GetStatus().String(), err.Error()}
				continue
			}
		}
		for reader.Next() {
		}
		said[when] = []any{result.GetStatus().String(), fmt.Sprint(reader.Err())}
		reader.Release()
	}
	return said, nil
}

func session(ctx context.Context, client *flightsql.Client) (answer, error) {
	wanted, err := flight.NewSessionOptionValues(map[string]any{"catalog": "weir", "schema": "private", "timezone": "UTC"})
	if err != nil {
		return nil, err
	}
	set, err := client.SetSessionOptions(ctx, &flight.SetSessionOptionsRequest{SessionOptions: wanted})
	if err != nil {
		return nil, err
	}
	errors := map[string]string{}
	for name, e := range set.GetErrors() {
		errors[name] = e.GetValue().String()
	}
	got, err := client.GetSessionOptions(ctx, &flight.GetSessionOptionsRequest{})
	if err != nil {
		return nil, err
	}
	options := map[string]string{}
	for name, value := range got.GetSessionOptions() {
		options[name] = value.GetStringValue()
	}
	closed, err := client.CloseSession(ctx, &flight.CloseSessionRequest{})
	if err != nil {
		return nil, err
	}
	return answer{"errors": errors, "options": options, "closed": closed.GetStatus().String()}, nil
}

func read(ctx context.Context, client *flightsql.Client, info *flight.FlightInfo, err error) (answer, error) {
	if err != nil {
		return nil, err
	}
	promised, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	rows, columns := []any{}, []any{}
	for _, field := range promised.Fields() {
		columns = append(columns, []any{field.Name, field.Type.String()})
	}
	for _, endpoint := range info.Endpoint {
		reader, err := client.DoGet(ctx, endpoint.Ticket)
		if err != nil {
			return nil, err
		}
		if !reader.Schema().Equal(promised) {
			return nil, fmt.Errorf("FlightInfo promised %s, DoGet brought %s", promised, reader.Schema())
		}
		for reader.Next() {
			batch := reader.RecordBatch()
			for row := range int(batch.NumRows()) {
				values := []any{}
				for at := range int(batch.NumCols()) {
					values = append(values, value(batch.Column(at), row, promised.Field(at).Name))
				}
				rows = append(rows, values)
			}
		}
		if reader.Err() != nil {
			return nil, reader.Err()
		}
		reader.Release()
	}
	return answer{"columns": columns, "rows": rows}, nil
}

// value is a value as JSON; of a table's schema, the names of its columns.
func value(column arrow.Array, row int, name string) any {
	if bytes, ok := column.(*array.Binary); ok && name == "table_schema" {
		schema, err := flight.DeserializeSchema(bytes.Value(row), memory.DefaultAllocator)
		if err != nil {
			return err.Error()
		}
		names := []string{}
		for _, field := range schema.Fields() {
			names = append(names, field.Name)
		}
		return names
	}
	return column.GetOneForMarshal(row)
}
