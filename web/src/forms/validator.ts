/**
 * The validator of forms, by an interpreter of JSON Schema: the usual one compiles schemas with `new Function`, which the
 * page's Content-Security-Policy forbids. The server checks everything again; this one shows errors before a request.
 */
import { Validator } from "@cfworker/json-schema";
import type { RJSFSchema, RJSFValidationError, ValidationData, ValidatorType } from "@rjsf/utils";
import { createErrorHandler, toErrorSchema, unwrapErrorHandler, validationDataMerge } from "@rjsf/utils";

function errorsOf(schema: RJSFSchema, value: unknown): RJSFValidationError[] {
  const { errors } = new Validator(schema as never, "2020-12", false).validate(value);
  const leaves = errors.filter(({ keyword }) => !["properties", "items", "additionalProperties", "$ref"].includes(keyword));
  return leaves.map(({ instanceLocation, keyword, error }) => {
    const path = instanceLocation.replace(/^#?\//, "").replace("#", "").replaceAll("/", ".");
    const missing = keyword === "required" ? /"(.+)"/.exec(error)?.[1] : undefined;
    const property = [path, missing].filter(Boolean).join(".");
    return { name: keyword, property: `.${property}`, message: missing ? "must be filled in" : error, stack: `${property}: ${error}` };
  });
}

type Custom = Parameters<ValidatorType["validateFormData"]>;

function validate(value: unknown, schema: RJSFSchema, customValidate: Custom[2], transformErrors: Custom[3], uiSchema: Custom[4]): ValidationData<unknown> {
  const found = errorsOf(schema, value);
  const errors = transformErrors ? transformErrors(found, uiSchema) : found;
  const result: ValidationData<unknown> = { errors, errorSchema: toErrorSchema(errors) };
  if (!customValidate) return result;
  const handled = customValidate(value, createErrorHandler(value), uiSchema);
  return validationDataMerge(result, unwrapErrorHandler(handled));
}

export const validator: ValidatorType = {
  isValid: (schema, value, root) => {
    const { $defs } = root as { $defs?: object };
    return new Validator({ $defs, ...(schema as object) } as never, "2020-12").validate(value).valid;
  },
  rawValidation: (schema, value) => ({ errors: errorsOf(schema, value) as never[] }),
  validateFormData: validate as ValidatorType["validateFormData"],
};

export default validator;
