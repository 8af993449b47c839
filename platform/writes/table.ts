export type Ref<R extends object> = { readonly table: Table<R> };
export type Table<R extends object> = { readonly name: string; readonly row?: R };
