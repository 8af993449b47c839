import { expect, test } from "vitest";
import { LOCALES, render } from "./template.ts";
import { templates } from "./templates.ts";

const each = [...templates].flatMap(([name, template]) => LOCALES.map((locale) => ({ name, locale, template })));

test.each(each)("$name in $locale tells all that it is given, and asks for nothing else", ({ name, locale, template }) => {
  const values = Object.fromEntries(template.params.map((param) => [param, `<${param}>`]));
  const { subject, text, html, sms } = render(template, locale, values);
  for (const param of template.params) expect([name, text.includes(`<${param}>`)]).toEqual([name, true]);
  for (const part of [subject, text, html, sms]) expect(part).not.toMatch(/[{}]/);
  expect(subject).toMatch(/\S/);
  expect(sms.length).toBeLessThan(300);
  expect(html).toContain(`lang="${locale}"`);
  for (const param of template.params) expect(html).not.toContain(`<${param}>`);
});

test("a code stands alone on its line", () => {
  for (const [name, template] of templates)
    if (template.params.includes("code"))
      for (const locale of LOCALES) {
        const { text, sms } = render(template, locale, { code: "123456", minutes: "15" });
        expect([name, text.split("\n").includes("123456"), sms.includes("123456")]).toEqual([name, true, true]);
      }
});
